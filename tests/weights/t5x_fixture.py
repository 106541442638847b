"""Writes tiny T5 checkpoints in the format of T5X, for the tests of its readers.

The layout is what t5x itself writes (commit cc342d4, t5x/checkpoints.py): a msgpack
file `checkpoint` whose leaves are arrays or tensorstore specs, and a folder of zarr
chunks for each spec, with the optimiser's slots beside the weights. Unscanned names are
those of t5x/examples/t5, scanned ones those of t5x/examples/scalable_t5.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np
import tensorstore

SAVED_ON_A_BUCKET = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}


class T5Shape(NamedTuple):
    """Sizes of a tiny T5 encoder; `gated` is v1.1's feed-forward part, else v1.0's."""

    vocab_size: int = 40
    width: int = 16
    num_layers: int = 3
    num_heads: int = 2
    head_dim: int = 4
    mlp_width: int = 24
    num_buckets: int = 32
    gated: bool = True


TINY = T5Shape()


def t5_arrays(
    shape: T5Shape = TINY, *, scanned: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Returns random float32 weights of a T5 by T5X's names, without "target/".

    One seed gives the same network scanned or not: the scanned one, which has position
    biases for each layer, repeats those that the unscanned layers share. Two arrays of
    a decoder are among them, for checkpoints of the whole T5 have one.
    """
    rng = np.random.default_rng(seed)
    inner = shape.num_heads * shape.head_dim

    def normal(*sizes: int) -> np.ndarray:
        scale = 1.0 if len(sizes) == 1 else sizes[0] ** -0.5
        return (scale * rng.standard_normal(sizes)).astype(np.float32)

    arrays = {
        "token_embedder/embedding": normal(shape.vocab_size, shape.width),
        "encoder/relpos_bias/rel_embedding": normal(shape.num_heads, shape.num_buckets),
        "encoder/encoder_norm/scale": 1 + 0.1 * normal(shape.width),
        "decoder/decoder_norm/scale": 1 + 0.1 * normal(shape.width),
        "decoder/logits_dense/kernel": normal(shape.width, shape.vocab_size),
    }
    wi = ("wi_0", "wi_1") if shape.gated else ("wi",)
    for i in range(shape.num_layers):
        layer = {
            "pre_attention_layer_norm/scale": 1 + 0.1 * normal(shape.width),
            "attention/query/kernel": normal(shape.width, inner),
            "attention/key/kernel": normal(shape.width, inner),
            "attention/value/kernel": normal(shape.width, inner),
            "attention/out/kernel": normal(inner, shape.width),
            "pre_mlp_layer_norm/scale": 1 + 0.1 * normal(shape.width),
            **{f"mlp/{n}/kernel": normal(shape.width, shape.mlp_width) for n in wi},
            "mlp/wo/kernel": normal(shape.mlp_width, shape.width),
        }
        arrays |= {f"encoder/layers_{i}/{name}": array for name, array in layer.items()}
    return _scan(arrays, shape) if scanned else arrays


def _scan(arrays: Mapping[str, np.ndarray], shape: T5Shape) -> dict[str, np.ndarray]:
    """Returns the same weights with all layers stacked on axis 1, heads split off."""
    first = "encoder/layers_0/"
    heads = (shape.num_heads, shape.head_dim)
    scanned = {
        name: array
        for name, array in arrays.items()
        if not name.startswith(("encoder/layers_", "encoder/relpos_bias"))
    }
    for name in arrays:
        if not name.startswith(first):
            continue
        part = name.removeprefix(first)
        layers = [arrays[f"encoder/layers_{i}/{part}"] for i in range(shape.num_layers)]
        if part == "attention/out/kernel":
            layers = [layer.reshape(*heads, shape.width) for layer in layers]
        elif part.startswith("attention/"):
            layers = [layer.reshape(shape.width, *heads) for layer in layers]
        scanned[f"encoder/encoder/{part}"] = np.stack(layers, axis=1)
    bias = arrays["encoder/relpos_bias/rel_embedding"]
    scanned["encoder/encoder/relpos_bias/rel_embedding"] = np.stack(
        [bias] * shape.num_layers, axis=1
    )
    return scanned


def transformers_names(
    arrays: Mapping[str, np.ndarray], shape: T5Shape = TINY
) -> dict[str, np.ndarray]:
    """Returns unscanned weights as the state of transformers' T5EncoderModel."""
    block_0 = "encoder.block.0.layer.0.SelfAttention"
    state = {
        "shared.weight": arrays["token_embedder/embedding"],
        "encoder.embed_tokens.weight": arrays["token_embedder/embedding"],
        "encoder.final_layer_norm.weight": arrays["encoder/encoder_norm/scale"],
        f"{block_0}.relative_attention_bias.weight": arrays[
            "encoder/relpos_bias/rel_embedding"
        ].T,
    }
    parts = {
        "pre_attention_layer_norm/scale": "layer.0.layer_norm",
        "attention/query/kernel": "layer.0.SelfAttention.q",
        "attention/key/kernel": "layer.0.SelfAttention.k",
        "attention/value/kernel": "layer.0.SelfAttention.v",
        "attention/out/kernel": "layer.0.SelfAttention.o",
        "pre_mlp_layer_norm/scale": "layer.1.layer_norm",
        "mlp/wi/kernel": "layer.1.DenseReluDense.wi",
        "mlp/wi_0/kernel": "layer.1.DenseReluDense.wi_0",
        "mlp/wi_1/kernel": "layer.1.DenseReluDense.wi_1",
        "mlp/wo/kernel": "layer.1.DenseReluDense.wo",
    }
    for i in range(shape.num_layers):
        for ours, theirs in parts.items():
            array = arrays.get(f"encoder/layers_{i}/{ours}")
            if array is not None:  # a vector's transpose is itself
                state[f"encoder.block.{i}.{theirs}.weight"] = array.T
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


def write_t5x(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    version: int = 3,
    inline: bool = False,
) -> None:
    """Writes a checkpoint; `folder` is the checkpoint's own, e.g. checkpoint_1000.

    Args:
      folder: made if it is not there.
      arrays: by names without "target/"; float32, bfloat16 and what numpy has.
      version: 3, or 2, which stores bfloat16 in zarr as uint16.
      inline: all arrays inside the file `checkpoint`; otherwise all in zarr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target: dict[str, Any] = {}
    param_states: dict[str, Any] = {}
    for name, array in arrays.items():
        moment = np.ones_like(array, np.float32)
        if inline:
            _nest(target, name, array)
            _nest(param_states, f"{name}/v", moment)
        else:
            path = f"target.{name.replace('/', '.')}"
            _nest(target, name, _write_zarr(folder, path, array, version))
            path = f"state.param_states.{name.replace('/', '.')}.v"
            _nest(param_states, f"{name}/v", _write_zarr(folder, path, moment, version))
    state = {"step": np.int32(1000), "param_states": param_states}
    tree = {"version": version, "optimizer": {"state": state, "target": target}}
    (folder / "checkpoint").write_bytes(msgpack.packb(tree, default=_pack_array))


def _nest(tree: dict[str, Any], name: str, leaf: Any) -> None:
    *parents, last = name.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = leaf


def _pack_array(array: Any) -> msgpack.ExtType:
    """Returns flax's encoding: type 1 for an array, 3 for a numpy scalar."""
    kind = 1 if isinstance(array, np.ndarray) else 3
    array = np.asarray(array)
    fields = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(kind, msgpack.packb(fields))


def _write_zarr(
    folder: Path, path: str, array: np.ndarray, version: int
) -> dict[str, Any]:
    """Writes one array in chunks of at most 8 rows; returns its spec as recorded."""
    if version < 3 and array.dtype == ml_dtypes.bfloat16:
        array = array.view(np.uint16)
    bfloat16 = array.dtype == ml_dtypes.bfloat16
    metadata = {
        "chunks": [
            min(8, size) if not i else size for i, size in enumerate(array.shape)
        ],
        "compressor": {"id": "gzip", "level": 1},
        "shape": list(array.shape),
    }
    store = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str((folder / path).resolve())},
            "metadata": {
                **metadata,
                "dtype": "bfloat16" if bfloat16 else array.dtype.str,
            },
        },
        create=True,
        open=True,
    ).result()
    store.write(array).result()
    return {
        "driver": "zarr",
        "dtype": "bfloat16" if bfloat16 else array.dtype.name,
        "kvstore": {**SAVED_ON_A_BUCKET, "path": f"{path}/"},
        "metadata": metadata,
    }
