"""A BERT of a few thousand random weights, as the files of a real one."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from imagen_jax.text.bert import BertConfig
from tests.text.tiny import WORDS, write_tokenizer

CONFIG = BertConfig(
    vocab_size=len(WORDS),
    width=24,
    num_layers=2,
    num_heads=4,
    mlp_width=40,
    max_positions=16,
    num_types=2,
    norm_eps=1e-12,
)


def config_json(config: BertConfig = CONFIG) -> dict:
    """Returns the config as the transformers library writes it."""
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.num_types,
        "layer_norm_eps": config.norm_eps,
    }


def random_tensors(config: BertConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns weights by the names of the transformers library.

    Nothing is zero or one, so that a bias or scale left out shows.
    """
    d, f = config.width, config.mlp_width
    shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, d),
        "embeddings.position_embeddings.weight": (config.max_positions, d),
        "embeddings.token_type_embeddings.weight": (config.num_types, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    dense = {"intermediate.dense": (f, d), "output.dense": (d, f)}
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        dense[f"attention.{part}"] = (d, d)
    for i in range(config.num_layers):
        layer = f"encoder.layer.{i}"
        for part, shape in dense.items():
            shapes[f"{layer}.{part}.weight"] = shape
            shapes[f"{layer}.{part}.bias"] = shape[:1]
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{part}.weight"] = (d,)
            shapes[f"{layer}.{part}.bias"] = (d,)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        tensors[name] = rng.normal(mean, 0.3, shape).astype(np.float32)
    return tensors


def write_folder(folder: Path) -> Path:
    """Returns `folder`, filled with the three files of a tiny BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json()))
    safetensors.numpy.save_file(random_tensors(), folder / "model.safetensors")
    return write_tokenizer(folder)
