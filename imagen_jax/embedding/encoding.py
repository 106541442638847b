"""Captions -> embeddings, in batches of captions of nearly one length.

The encoder's work grows with the length that a batch is padded to, and a compiled
program serves one shape. So captions are sorted by their token count, every batch has
the same number of rows, and its length is rounded up to a multiple of `length_step`:
1 pads least, and is worth its compiles where many batches share them.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import ml_dtypes
import numpy as np

from imagen_jax.data.store_format import caption_hash
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.text.encoder import TextEncoder

_T = TypeVar("_T")

MAX_STEP = 16

_TOKENIZED = 1024  # captions tokenized at once
_BATCHES_PER_SHAPE = 32  # what pays for a compile


def length_step(num_captions: int, max_length: int, batch_size: int) -> int:
    """Returns what batches' lengths are rounded up to: 1, 2, 4, 8 or 16.

    Args:
      num_captions: to be encoded by this machine.
      max_length: of the encoder.
      batch_size: captions per call of the encoder.
    """
    step = 1
    num_batches = num_captions / batch_size
    while step < MAX_STEP and num_batches * step < max_length * _BATCHES_PER_SHAPE:
        step *= 2
    return step


def encode_captions(
    encoder: TextEncoder,
    captions: Iterable[str],
    batch_size: int = 64,
    step: int = MAX_STEP,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each caption with its embedding, bfloat16 `[n_valid, d]`.

    Captions come sorted by their token count, then by hash: the order is a function of
    the captions and the encoder alone. The last batch is filled up.

    Args:
      encoder: from `load_encoder`.
      captions: held in memory with their tokens.
      batch_size: captions per call of the encoder, at least 1.
      step: from `length_step`.
    """
    captions = list(captions)
    if not captions:
        return
    chunks = [
        encoder.tokenize(captions[start : start + _TOKENIZED])
        for start in range(0, len(captions), _TOKENIZED)
    ]
    ids = np.concatenate([np.asarray(chunk.ids) for chunk in chunks])
    mask = np.concatenate([np.asarray(chunk.mask) for chunk in chunks])
    lengths = mask.sum(axis=1)
    order = sorted(
        range(len(captions)), key=lambda i: (lengths[i], caption_hash(captions[i]))
    )

    def encode(rows: list[int]) -> tuple[list[int], TextEmbeddings]:
        longest = max(int(lengths[rows[-1]]), 1)
        n = min(-(-longest // step) * step, encoder.max_length)
        empty = ((0, batch_size - len(rows)), (0, 0))
        tokens = np.pad(ids[rows, :n], empty), np.pad(mask[rows, :n], empty)
        text = encoder.encode(TextTokens(*tokens))  # pyright: ignore[reportArgumentType]
        return rows, text._replace(embed=text.embed.astype(ml_dtypes.bfloat16))

    starts = range(0, len(order), batch_size)
    encoded = (encode(order[start : start + batch_size]) for start in starts)
    # The device works on the next batch while this one is written.
    for rows, (embed, valid) in _one_behind(encoded):
        embed, valid = np.asarray(embed), np.asarray(valid)
        for i, row in enumerate(rows):
            yield captions[row], embed[i, valid[i]]


def _one_behind(items: Iterator[_T]) -> Iterator[_T]:
    """Yields each item when the next one has been made."""
    for item in items:
        ready = item
        for following in items:
            yield ready
            ready = following
        yield ready
