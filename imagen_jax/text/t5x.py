"""T5 encoders from native T5X checkpoints, scanned or not.

The table (D width, H heads, K width of a head, F mlp_width, L layers, V vocabulary);
P is encoder/layers_{i} in checkpoints of t5x/examples/t5, such as the published
t5_1_1_*, and encoder/encoder in scanned ones of t5x/examples/scalable_t5, which have
the layers on axis 1 and the heads apart:

    name                                  unscanned   scanned
    token_embedder/embedding              (V, D)      (V, D)
    encoder/relpos_bias/rel_embedding     (H, 32)     -             one for all layers
    P/relpos_bias/rel_embedding           -           (H, L, 32)    one for each
    P/pre_attention_layer_norm/scale      (D)         (D, L)
    P/attention/{query,key,value}/kernel  (D, H K)    (D, L, H, K)
    P/attention/out/kernel                (H K, D)    (H, L, K, D)
    P/pre_mlp_layer_norm/scale            (D)         (D, L)
    P/mlp/{wi_0,wi_1}/kernel, v1.0: wi    (D, F)      (D, L, F)
    P/mlp/wo/kernel                       (F, D)      (F, L, D)
    encoder/encoder_norm/scale            (D)         (D)

There is no config.json: every size is inferred from the arrays. Kernels are (in, out),
as ours.
"""

import functools
import re

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.text.layers import Params
from imagen_jax.text.parameters import (
    Leaf,
    Place,
    Tensors,
    one,
    per_layer,
    read_params,
    to_device,
)
from imagen_jax.text.t5 import MAX_DISTANCE, T5Config

_TOKEN = "token_embedder/embedding"
_SHARED_BIAS = "encoder/relpos_bias/rel_embedding"
_SCANNED = "encoder/encoder"
_LAYER = re.compile(r"encoder/layers_(\d+)/")


def config_from_t5x(tensors: Tensors) -> T5Config:
    """Returns the shape that the arrays have. Four of them are read for it.

    Args:
      tensors: by T5X's names without "target/".

    Raises:
      UserError: if the checkpoint has not the arrays of one of the two layouts.
    """
    scanned = _is_scanned(tensors)
    layer = _SCANNED if scanned else "encoder/layers_0"
    gated = f"{layer}/mlp/wi_0/kernel" in tensors
    shared = _SHARED_BIAS in tensors
    num_axes = {
        _TOKEN: 2,
        f"{layer}/attention/query/kernel": 4 if scanned else 2,
        f"{layer}/mlp/{'wi_0' if gated else 'wi'}/kernel": 3 if scanned else 2,
        _SHARED_BIAS if shared else f"{layer}/relpos_bias/rel_embedding": (
            3 if scanned and not shared else 2
        ),
    }
    if missing := [name for name in num_axes if name not in tensors]:
        raise UserError(
            f"the T5X checkpoint has no {', '.join(missing)}; give one of "
            "t5x/examples/t5 or t5x/examples/scalable_t5"
        )
    shapes = [tensors[name].shape for name in num_axes]
    for (name, axes), shape in zip(num_axes.items(), shapes, strict=True):
        if len(shape) != axes:
            raise UserError(
                f"the T5X checkpoint's {name} has the shape {shape}; it must have "
                f"{axes} axes"
            )
    (vocab_size, width), query, mlp, bias = shapes
    num_heads, num_buckets = bias[0], bias[-1]
    numbers = [int(m[1]) for m in map(_LAYER.match, tensors) if m]
    return T5Config(
        vocab_size=vocab_size,
        width=width,
        num_layers=query[1] if scanned else max(numbers) + 1,
        num_heads=num_heads,
        head_dim=query[-1] if scanned else query[-1] // num_heads,
        mlp_width=mlp[-1],
        gated=gated,
        num_buckets=num_buckets,
        max_distance=MAX_DISTANCE,
        shared_relative_bias=shared,
    )


def params_from_t5x(
    tensors: Tensors, config: T5Config, place: Place = to_device
) -> Params:
    """Returns the parameters, stacked per layer, as `t5.params_from_tensors` does.

    Args:
      tensors: by T5X's names without "target/"; the decoder's are ignored.
      config: from `config_from_t5x`.
      place: called once for each leaf.

    Raises:
      UserError: naming all arrays that are missing or not as `config` says.
    """
    return read_params(tensors, _leaves(config, _is_scanned(tensors)), place)


def _is_scanned(tensors: Tensors) -> bool:
    return f"{_SCANNED}/attention/query/kernel" in tensors


def _leaves(config: T5Config, scanned: bool) -> list[Leaf]:
    d, f = config.width, config.mlp_width
    heads = (config.num_heads, config.head_dim)
    bias = (config.num_heads, config.num_buckets)
    wi = {"mlp_gate": "wi_0", "mlp_in": "wi_1"} if config.gated else {"mlp_in": "wi"}
    # Part -> (ours, axes): an inner tuple is split in scanned checkpoints only.
    parts = {
        "pre_attention_layer_norm/scale": ("attention_norm/scale", (d,)),
        "attention/query/kernel": ("attention/query/kernel", (d, heads)),
        "attention/key/kernel": ("attention/key/kernel", (d, heads)),
        "attention/value/kernel": ("attention/value/kernel", (d, heads)),
        "attention/out/kernel": ("attention/out/kernel", (heads, d)),
        **{
            f"mlp/{name}/kernel": (f"{ours}/kernel", (d, f))
            for ours, name in wi.items()
        },
        "mlp/wo/kernel": ("mlp_out/kernel", (f, d)),
        "pre_mlp_layer_norm/scale": ("mlp_norm/scale", (d,)),
    }
    if not config.shared_relative_bias:
        parts["relpos_bias/rel_embedding"] = ("relative_bias", bias)
    leaves = [one("token", _TOKEN, config.vocab_size, d)]
    if config.shared_relative_bias:
        leaves.append(one("relative_bias", _SHARED_BIAS, *bias))
    for name, (path, axes) in parts.items():
        flat = tuple(int(np.prod(axis)) for axis in axes)
        if scanned:
            split = [size for axis in axes for size in np.atleast_1d(axis).tolist()]
            stored = (split[0], config.num_layers, *split[1:])
            convert = functools.partial(_layers_first, shape=flat)
            leaves.append(
                Leaf(f"layers/{path}", (f"{_SCANNED}/{name}",), stored, convert)
            )
        else:
            name = f"encoder/layers_{{i}}/{name}"
            leaves.append(per_layer(path, name, config.num_layers, *flat))
    return [*leaves, one("final_norm/scale", "encoder/encoder_norm/scale", d)]


def _layers_first(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array with the layers on axis 1 as [layers, *shape]."""
    return np.moveaxis(tensor, 1, 0).reshape(tensor.shape[1], *shape)
