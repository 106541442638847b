"""CLIP score: how well pictures go with their texts.

With c the cosine of CLIP's vectors of a picture and of its text, three scales are in
use, and the model and the words put before the text differ too:

    c                  raw, e.g. with ViT-L/14
    100 c              with ViT-B/16 in GLIDE (arXiv:2112.10741)
    2.5 max(c, 0)      CLIPScore (arXiv:2104.08718, section 3), with ViT-B/32 and the
                       words "A photo depicts"

None of them can be compared with another, so all three are given, with the model and
the prefix. Imagen (arXiv:2205.11487) does not say which it used.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.features.clip import Clip

PREFIX = "A photo depicts "
"""What CLIPScore puts before each text."""
CLIPSCORE_FACTOR = 2.5


class ClipScores(NamedTuple):
    """Each picture's score, in the three scales."""

    cosine: Float[np.ndarray, " n"]
    times_100: Float[np.ndarray, " n"]
    clipscore: Float[np.ndarray, " n"]


def clip_scores(
    clip: Clip,
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]],
    texts: Sequence[str],
    prefix: str = "",
    batch_size: int = 32,
) -> ClipScores:
    """Returns the scores of pictures and their texts.

    Args:
      clip: the model.
      pictures: of any sizes, read as they are needed, one for each text.
      texts: of the pictures, in the same order; none of them empty.
      prefix: put before each text.
      batch_size: pictures at a time, rounded up to a multiple of `clip.multiple`.

    Raises:
      UserError: a text is empty.
      ValueError: the numbers of pictures and texts differ.
    """
    size = -(-batch_size // clip.multiple) * clip.multiple
    vectors = _text_vectors(clip, texts, prefix, size)
    pairs = zip(pictures, texts, strict=True)
    cosines = [np.zeros(0, np.float32)]
    while batch := list(itertools.islice(pairs, size)):
        prepared = [clip.prepare(picture) for picture, _ in batch]
        found = clip.embed_pictures(_filled_up(prepared, size))[: len(batch)]
        wanted = np.stack([vectors[text] for _, text in batch])
        cosines.append((found * wanted).sum(axis=1))
    cosine = np.concatenate(cosines)
    clipscore = CLIPSCORE_FACTOR * np.maximum(cosine, 0)
    return ClipScores(cosine, 100 * cosine, clipscore.astype(np.float32))


def _text_vectors(
    clip: Clip, all_texts: Sequence[str], prefix: str, size: int
) -> dict[str, np.ndarray]:
    """Returns the vector of each distinct text; it may be that of many pictures."""
    vectors: dict[str, np.ndarray] = {}
    distinct = iter(dict.fromkeys(all_texts))
    while part := list(itertools.islice(distinct, size)):
        texts = [f"{prefix}{text}" if text.strip() else "" for text in part]
        filling = ["a"] * (size - len(part))  # one shape of batch, compiled once
        embedded = clip.embed_texts(texts + filling)
        vectors |= dict(zip(part, embedded, strict=False))
    return vectors


def _filled_up(rows: list[np.ndarray], size: int) -> Float[np.ndarray, "b s s 3"]:
    batch = np.zeros((size, *rows[0].shape), np.float32)
    batch[: len(rows)] = rows
    return batch
