"""A whole CLIP of a few thousand random weights, as the files of a real one."""

from pathlib import Path
from typing import Any

import pytest

from tests.text.oracle import save_random
from tests.text.tiny import WORDS, write_tokenizer

TEXTS = [" ".join(WORDS[4 : 4 + k]) for k in (1, 3, 5)]


def write_clip(folder: Path) -> Any:
    """Returns transformers' model, whose files are in `folder` now. Needs torch."""
    transformers = pytest.importorskip("transformers")
    shared = {"hidden_act": "quick_gelu", "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config={
            **shared,
            "vocab_size": len(WORDS),
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "intermediate_size": 40,
            "max_position_embeddings": 12,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
        vision_config={
            **shared,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 48,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    model = transformers.CLIPModel(config)
    save_random(model, folder)
    write_tokenizer(folder)
    return model
