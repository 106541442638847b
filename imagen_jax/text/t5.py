"""The encoder of T5 (arXiv:1910.10683), v1.0 and v1.1, as a pure function.

With E the token embeddings and N(x) = x / sqrt(mean(x^2) + 1e-6) scale,

    x = E;   per layer:  x = x + attention(N(x)),   x = x + mlp(N(x));   then N(x)

attention(x) = softmax(q k^T + bias) v over the valid tokens, with no 1 / sqrt(c): the
initialisation made up for it. The bias depends on head and distance only (see
`relative_buckets`). mlp(x) = relu(x W) Wo in v1.0, (gelu(x W0) * x W1) Wo in v1.1 with
the tanh gelu (arXiv:2002.05202). Nothing has a bias vector.

This is the encoder that Imagen uses, as T5-XXL (arXiv:2205.11487, section 2.1). It was
trained in bfloat16; float16 overflows in it (trap T27), bfloat16 does not.

Checkpoints: of the transformers library here, of T5X in `imagen_jax.text.t5x`.
"""

import dataclasses
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imagen_jax.errors import UserError
from imagen_jax.text.layers import Params, attention, dense, masked, rms_norm
from imagen_jax.text.parameters import (
    Leaf,
    Place,
    Tensors,
    dense_layers,
    nested_shapes,
    one,
    per_layer,
    read_config_keys,
    read_params,
    require,
    select,
    to_device,
)

NORM_EPS = 1e-6
MAX_DISTANCE = 128  # of every published T5; their config.json do not name it
_GATED = {"relu": False, "gated-gelu": True}


@dataclasses.dataclass(frozen=True)
class T5Config:
    """The shape of a T5 encoder; all is read from config.json or from the arrays.

    Attributes:
      vocab_size: number of token ids.
      width: width of the hidden states.
      num_layers: encoder layers.
      num_heads: attention heads.
      head_dim: width of a head; heads times head_dim may differ from `width`.
      mlp_width: width inside the feed-forward part.
      gated: v1.1's gated feed-forward part; else v1.0's.
      num_buckets: of relative distances, half of them for each direction.
      max_distance: from here on all distances share the last bucket.
      shared_relative_bias: all layers share one table of biases; else each has its own.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    head_dim: int
    mlp_width: int
    gated: bool
    num_buckets: int
    max_distance: int
    shared_relative_bias: bool

    @property
    def max_positions(self) -> None:
        """The longest sequence: any, as positions are relative."""
        return None


_KEYS = {
    "vocab_size": "vocab_size",
    "width": "d_model",
    "num_layers": "num_layers",
    "num_heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_width": "d_ff",
    "num_buckets": "relative_attention_num_buckets",
}


def read_config(path: str | os.PathLike) -> T5Config:
    """Returns the shape described by a config.json of the transformers library.

    Raises:
      UserError: if a key is missing or describes a network that differs from `t5`.
    """
    keys = read_config_keys(path)
    require(path, keys, {"layer_norm_epsilon": NORM_EPS})
    feed_forward = keys.get("feed_forward_proj", "relu")  # v1.0's do not say it
    if feed_forward not in _GATED:
        raise UserError(
            f"{path}: feed_forward_proj is {feed_forward!r}; this encoder has "
            f"{' and '.join(_GATED)} only"
        )
    return T5Config(
        **select(path, keys, _KEYS),
        gated=_GATED[feed_forward],
        max_distance=keys.get("relative_attention_max_distance", MAX_DISTANCE),
        shared_relative_bias=True,
    )


def params_from_tensors(
    tensors: Tensors, config: T5Config, place: Place = to_device
) -> Params:
    """Returns the parameters, stacked per layer, from a transformers checkpoint.

    Args:
      tensors: by the names of transformers' T5EncoderModel, or of a whole T5, whose
        decoder is ignored.
      config: the shape to expect, from `read_config`.
      place: called once for each leaf.

    Raises:
      UserError: naming all tensors that are missing or not as `config` says.
    """
    return read_params(tensors, _leaves(tensors, config), place)


def params_shapes(config: T5Config) -> Params:
    """Returns what `params_from_tensors` would, with shapes instead of arrays."""
    return nested_shapes(_leaves({}, config))


def _leaves(tensors: Tensors, config: T5Config) -> list[Leaf]:
    token = "encoder.embed_tokens.weight"
    if token not in tensors:
        token = "shared.weight"  # one array, which a file may hold by either name
    d, f, num_layers = config.width, config.mlp_width, config.num_layers
    inner = config.num_heads * config.head_dim
    self_attention = "encoder.block.{i}.layer.0.SelfAttention"
    feed_forward = "encoder.block.{i}.layer.1.DenseReluDense"
    table = f"{self_attention}.relative_attention_bias.weight".replace("{i}", "0")
    leaves = [
        one("token", token, config.vocab_size, d),
        one(
            "relative_bias",
            table,
            config.num_buckets,
            config.num_heads,
            convert=np.transpose,
        ),
        per_layer(
            "attention_norm/scale",
            "encoder.block.{i}.layer.0.layer_norm.weight",
            num_layers,
            d,
        ),
    ]
    dense_parts = [
        ("attention/query", f"{self_attention}.q", d, inner),
        ("attention/key", f"{self_attention}.k", d, inner),
        ("attention/value", f"{self_attention}.v", d, inner),
        ("attention/out", f"{self_attention}.o", inner, d),
        *(
            [
                ("mlp_gate", f"{feed_forward}.wi_0", d, f),
                ("mlp_in", f"{feed_forward}.wi_1", d, f),
            ]
            if config.gated
            else [("mlp_in", f"{feed_forward}.wi", d, f)]
        ),
        ("mlp_out", f"{feed_forward}.wo", f, d),
    ]
    for path, name, fan_in, fan_out in dense_parts:
        leaves += dense_layers(path, name, num_layers, fan_in, fan_out, bias=False)
    leaves += [
        per_layer(
            "mlp_norm/scale",
            "encoder.block.{i}.layer.1.layer_norm.weight",
            num_layers,
            d,
        ),
        one("final_norm/scale", "encoder.final_layer_norm.weight", d),
    ]
    return leaves


def relative_buckets(
    n: int, num_buckets: int, max_distance: int
) -> Int[np.ndarray, "{n} {n}"]:
    """Returns the bucket of the distance from query (row) to key (column).

    With m = num_buckets / 2, keys before or at the query have buckets 0..m-1, later
    ones m..2m-1. Distances below m / 2 have a bucket each; beyond, buckets widen with
    the logarithm up to `max_distance`, from where on all share the last.

    Source: arXiv:1910.10683, section 2.1; the rounding is that of its code.
    """
    distance = np.arange(n)[None, :] - np.arange(n)[:, None]
    half = num_buckets // 2
    exact = half // 2
    far = np.abs(distance).astype(np.float32)
    # The epsilon keeps log(1) from rounding to a bucket too low; far >= 1 where used.
    share = np.log(np.maximum(far, 1) / exact + np.finfo(np.float32).eps)
    share = share / math.log(max_distance / exact)
    wide = exact + (share * (half - exact)).astype(np.int32)
    bucket = np.where(far < exact, far.astype(np.int32), np.minimum(wide, half - 1))
    return bucket + np.where(distance > 0, half, 0)


def hidden_states(
    params: Params,
    ids: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
    config: T5Config,
) -> Float[Array, "b n d"]:
    """Returns the encoder's output, after its final norm; zero where `mask` is False.

    A valid token's state depends on the valid tokens of its own row only. The compute
    type is the parameters', see `imagen_jax.text.layers`.

    Args:
      params: from `params_from_tensors` or `t5x.params_from_t5x`.
      ids: token ids, 0 <= id < vocab_size; any id may stand where the mask is False.
      mask: True on valid tokens; a row without any gives zeros.
      config: static under jit.
    """
    visible = mask[:, None, :]
    buckets = relative_buckets(ids.shape[1], config.num_buckets, config.max_distance)

    def bias_of(p: Params) -> Float[Array, "k n n"]:
        return p["relative_bias"][:, buckets].astype(jnp.float32)

    shared = bias_of(params) if config.shared_relative_bias else None

    def layer(
        x: Float[Array, "b n d"], p: Params
    ) -> tuple[Float[Array, "b n d"], None]:
        bias = bias_of(p) if shared is None else shared
        h = rms_norm(x, p["attention_norm"], NORM_EPS)
        x = x + attention(h, visible, p["attention"], config.num_heads, 1.0, bias)
        h = rms_norm(x, p["mlp_norm"], NORM_EPS)
        return x + _mlp(h, p), None

    x = params["token"][ids].astype(jnp.float32)  # b n d
    x, _ = jax.lax.scan(layer, x, params["layers"])
    x = rms_norm(x, params["final_norm"], NORM_EPS)
    return masked(x, mask, params["token"].dtype)


def _mlp(x: Float[Array, "b n d"], p: Params) -> Float[Array, "b n d"]:
    h = dense(x, p["mlp_in"])  # b n mlp_width
    if "mlp_gate" in p:
        h = h * jax.nn.gelu(dense(x, p["mlp_gate"]), approximate=True)
    else:
        h = jax.nn.relu(h)
    return dense(h, p["mlp_out"])
