"""What the tests of all text encoders share: a vocabulary, tokens, loading."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from tokenizers.processors import TemplateProcessing

from imagen_jax.text.encoder import TextEncoder, load_encoder
from imagen_jax.weights.folder import open_weights

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"a the fox owl cat red blue on".split())


def write_tokenizer(folder: Path) -> Path:
    """Returns `folder`, with a tokenizer.json of `WORDS` in it."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # Real files carry settings of their own, which ours must override.
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def load_tiny(
    folder: Path, max_length: int = 8, name: str = "tiny", **settings: Any
) -> TextEncoder:
    """Returns the encoder of a folder; `settings` are those of `load_encoder`."""
    return load_encoder(
        name,
        max_length,
        find_weights=Path,
        open_weights=open_weights,
        weights=str(folder),
        **settings,
    )


def make_tokens(vocab_size: int, n: int = 10) -> tuple[jax.Array, jax.Array]:
    """Returns ids and mask of three rows with n, 4 and 1 valid tokens."""
    ids = np.random.default_rng(1).integers(0, vocab_size, (3, n)).astype(np.int32)
    mask = np.arange(n) < np.array([[n], [4], [1]])
    return jnp.asarray(ids), jnp.asarray(mask)
