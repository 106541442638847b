"""Stand-ins for text encoders of several sizes, and the stores that they fill.

MiniLM's last layers are taken away, so that what is left is a smaller language model;
without any, words are embedded one by one. A T5 of random weights has T5's form and
knows no language. Each is a folder of weights as of any model, opened as such.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from imagen_jax.embedding.job import fill_store
from imagen_jax.embedding.machine import load_here
from imagen_jax.embedding.sources import open_captions
from imagen_jax.errors import UserError
from imagen_jax.text import minilm
from imagen_jax.text.catalog import NAMES
from imagen_jax.text.t5 import NORM_EPS

CUT = {f"minilm_{layers}_layers": layers for layers in (6, 3, 1, 0)}
RANDOM_T5 = "random_t5"
STAND_INS = (*CUT, RANDOM_T5)
_T5_INIT_SEED = 0


def find_encoder(name: str, weights: str, folder: Path) -> tuple[str, str]:
    """Returns what `text.encoder` and `text.weights_path` are to be.

    Args:
      name: of `STAND_INS`, or of the catalog.
      weights: of an encoder of the catalog; "" for its own place.
      folder: where stand-ins are written, if they are not there.

    Raises:
      UserError: there is no such encoder, or MiniLM cannot be had.
    """
    if name in CUT:
        return "minilm", str(cut_minilm(CUT[name], folder / name))
    if name == RANDOM_T5:
        return name, str(write_random_t5(folder / name))
    if name in NAMES:
        return name, weights
    known = ", ".join((*STAND_INS, *NAMES))
    raise UserError(f"--encoders names {name!r}; they are: {known}")


def cut_minilm(num_layers: int, folder: Path) -> Path:
    """Returns a folder with MiniLM's first layers; made if it is missing."""
    if not (folder / "config.json").exists():
        whole = minilm.fetch()
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "tokenizer.json"):
            (folder / name).symlink_to(whole / name)
        keys = json.loads((whole / "config.json").read_text("utf-8"))
        _write_config(folder, keys | {"num_hidden_layers": num_layers})
    return folder


def write_random_t5(folder: Path) -> Path:
    """Returns a folder with a T5 of MiniLM's size and vocabulary and random weights.

    Kernels are normal with the deviations of Mesh TensorFlow's T5, with which an
    untrained one starts.
    """
    if (folder / "config.json").exists():
        return folder
    whole = minilm.fetch()
    keys = json.loads((whole / "config.json").read_text("utf-8"))
    d, f, heads = keys["hidden_size"], keys["intermediate_size"], 6
    layers, words, buckets = keys["num_hidden_layers"], keys["vocab_size"], 32
    rng = np.random.default_rng(_T5_INIT_SEED)

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return (deviation * rng.standard_normal(shape)).astype(np.float32)

    tensors = {
        "shared.weight": normal(1.0, words, d),
        "encoder.final_layer_norm.weight": np.ones(d, np.float32),
    }
    for i in range(layers):
        attention = f"encoder.block.{i}.layer.0.SelfAttention"
        head_dim = d // heads
        tensors |= {
            f"{attention}.q.weight": normal((d * head_dim) ** -0.5, d, d),
            f"{attention}.k.weight": normal(d**-0.5, d, d),
            f"{attention}.v.weight": normal(d**-0.5, d, d),
            f"{attention}.o.weight": normal(d**-0.5, d, d),
            f"encoder.block.{i}.layer.0.layer_norm.weight": np.ones(d, np.float32),
            f"encoder.block.{i}.layer.1.layer_norm.weight": np.ones(d, np.float32),
            f"encoder.block.{i}.layer.1.DenseReluDense.wi.weight": normal(
                d**-0.5, f, d
            ),
            f"encoder.block.{i}.layer.1.DenseReluDense.wo.weight": normal(
                f**-0.5, d, f
            ),
        }
        if i == 0:
            name = f"{attention}.relative_attention_bias.weight"
            tensors[name] = normal(d**-0.5, buckets, heads)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").symlink_to(whole / "tokenizer.json")
    config = {
        "model_type": "t5",
        "vocab_size": words,
        "d_model": d,
        "d_kv": d // heads,
        "d_ff": f,
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "relu",
        "layer_norm_epsilon": NORM_EPS,
    }
    _write_config(folder, config)
    return folder


def embed(name: str, weights: str, source: str, max_length: int, store: Path) -> int:
    """Fills a store with the captions of a source; returns the encoder's width.

    Args:
      name: of the encoder, for the store.
      weights: its folder or hub name; "" for the catalog's.
      source: what `data.source` takes.
      max_length: tokens per caption.
      store: folder; one that has these captions is kept.

    Raises:
      UserError: the encoder, the source or the store cannot be used.
    """
    encoder = load_here(name, max_length, 64, weights=weights)
    fill_store(encoder, open_captions(source), store)
    return encoder.width


def _write_config(folder: Path, keys: dict[str, Any]) -> None:
    """Last of the files: it says that the folder is whole."""
    (folder / "config.json").write_text(json.dumps(keys, indent=2) + "\n", "utf-8")
