"""Embedding stores, damaged after they were made."""

import contextlib
import io
from pathlib import Path

import ml_dtypes
import numpy as np

from imagen_jax.data.embedding_store import EmbeddingStore, Manifest, write_store
from imagen_jax.embedding.job import fill_store
from imagen_jax.embedding.verify import verify_store
from imagen_jax.errors import UserError
from tests.embedding.fake_encoder import make_encoder
from tests.fuzzing import FINE, REFUSED, LostError, taken
from tests.fuzzing.damage import damage_file, files_below, pick

CAPTIONS = [f"caption number {i}" for i in range(12)]
WIDTH, MAX_LENGTH = 8, 6


def store(rng: np.random.Generator, folder: Path) -> str:
    """A store with a damaged file: what `--verify` lets pass is what was stored."""
    path = folder / "store"
    dtype = pick(rng, ("bfloat16", "int8"))
    manifest = Manifest("words", "0" * 64, "words", WIDTH, MAX_LENGTH, dtype)
    embeddings = [
        (c, rng.standard_normal((3, WIDTH)).astype(ml_dtypes.bfloat16))
        for c in CAPTIONS
    ]
    write_store(path, manifest, embeddings, num_shards=2)
    before = EmbeddingStore(path).lookup(CAPTIONS)
    if damaged := rng.random() < 0.85:
        damage_file(rng, pick(rng, files_below(path)))
    outcome, verified = FINE, True
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            verify_store(path)
        except UserError:
            outcome, verified = REFUSED, False
    with taken(not damaged):
        after = EmbeddingStore(path).lookup([*CAPTIONS, ""])
    same = all(np.array_equal(a[:-1], b) for a, b in zip(after, before, strict=True))
    if verified and not same:
        raise LostError("embeddings have changed and the store is said to be well")
    return outcome


def unfinished_store(rng: np.random.Generator, folder: Path) -> str:
    """A job that goes on with a damaged store makes it whole, or says what is wrong."""
    path = folder / "store"
    encoder = make_encoder(WIDTH, MAX_LENGTH)
    fill_store(encoder, CAPTIONS, path, num_shards=3, batch_size=4)
    before = EmbeddingStore(path).lookup(CAPTIONS)
    (path / "manifest.json").unlink()
    if damaged := rng.random() < 0.85:
        damage_file(rng, pick(rng, files_below(path)))
    with taken(not damaged):
        fill_store(encoder, CAPTIONS, path, num_shards=3, batch_size=4)
        verify_store(path)
    after = EmbeddingStore(path).lookup(CAPTIONS)
    if not all(np.array_equal(a, b) for a, b in zip(after, before, strict=True)):
        raise LostError("embeddings have changed and the store is said to be well")
    return FINE
