"""A T5 encoder of a few thousand random weights, in the formats of real ones."""

import json
from pathlib import Path

import safetensors.numpy

from imagen_jax.text.t5 import T5Config
from tests.text.tiny import write_tokenizer
from tests.weights.t5x_fixture import (
    TINY,
    T5Shape,
    t5_arrays,
    transformers_names,
    write_t5x,
)


def config_of(shape: T5Shape) -> T5Config:
    """Returns our config of a checkpoint with one table of biases for all layers."""
    return T5Config(**shape._asdict(), max_distance=128, shared_relative_bias=True)


def config_json(shape: T5Shape = TINY) -> dict:
    """Returns the config as the transformers library writes it."""
    return {
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu" if shape.gated else "relu",
        "vocab_size": shape.vocab_size,
        "d_model": shape.width,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "d_kv": shape.head_dim,
        "d_ff": shape.mlp_width,
        "relative_attention_num_buckets": shape.num_buckets,
        "layer_norm_epsilon": 1e-6,
    }


def write_folder(folder: Path, shape: T5Shape = TINY) -> Path:
    """Returns `folder`, filled with the three files of a tiny T5."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(shape)))
    tensors = transformers_names(t5_arrays(shape), shape)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return write_tokenizer(folder)


def write_checkpoint(
    folder: Path, shape: T5Shape = TINY, *, scanned: bool = False, version: int = 3
) -> Path:
    """Returns `folder`, a T5X checkpoint of the same weights, a vocabulary beside."""
    arrays = t5_arrays(shape, scanned=scanned)
    write_t5x(folder, arrays, version=version)
    return write_tokenizer(folder)
