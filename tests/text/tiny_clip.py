"""A CLIP text encoder of a few thousand random weights, as the files of a real one."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

from imagen_jax.text.clip import ClipConfig
from tests.text.tiny import WORDS, write_tokenizer

CONFIG = ClipConfig(
    vocab_size=len(WORDS),
    width=24,
    num_layers=3,
    num_heads=4,
    mlp_width=40,
    max_positions=20,
    activation="quick_gelu",
    norm_eps=1e-5,
)


def config_json(config: ClipConfig = CONFIG) -> dict:
    """Returns the config of a CLIPTextModel as the transformers library writes it."""
    return {
        "model_type": "clip_text_model",
        "hidden_act": config.activation,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": config.norm_eps,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }


def random_tensors(config: ClipConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns weights by the names of a CLIPModel's text encoder.

    Nothing is zero or one, so that a bias or scale left out shows.
    """
    d, f = config.width, config.mlp_width
    shapes = {
        "embeddings.token_embedding.weight": (config.vocab_size, d),
        "embeddings.position_embedding.weight": (config.max_positions, d),
        "final_layer_norm.weight": (d,),
        "final_layer_norm.bias": (d,),
    }
    dense = {"mlp.fc1": (f, d), "mlp.fc2": (d, f)}
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        dense[f"self_attn.{part}"] = (d, d)
    for i in range(config.num_layers):
        layer = f"encoder.layers.{i}"
        for part, shape in dense.items():
            shapes[f"{layer}.{part}.weight"] = shape
            shapes[f"{layer}.{part}.bias"] = shape[:1]
        for part in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{part}.weight"] = (d,)
            shapes[f"{layer}.{part}.bias"] = (d,)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        values = rng.normal(mean, 0.3, shape).astype(np.float32)
        tensors[f"text_model.{name}"] = values
    return tensors


def write_folder(folder: Path) -> Path:
    """Returns `folder`, filled with the three files of a tiny CLIP."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json()))
    safetensors.numpy.save_file(random_tensors(), folder / "model.safetensors")
    return write_tokenizer(folder)
