"""Captions -> embedding store: every distinct caption is embedded once.

A caption is embedded and stored exactly as it is: cleaning it here would separate it
from the caption that training looks up, and from the prompt given in sampling. The
manifest says so (`cleaning: "none"`). The empty caption is left out, because it is the
null text, which is defined elsewhere and is not the encoder's output for "".
"""

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tqdm import tqdm

from imagen_jax.data.embedding_store import (
    EmbeddingStore,
    Manifest,
    read_manifest,
    write_store,
)
from imagen_jax.data.records import BadRecordError, Source
from imagen_jax.errors import UserError
from imagen_jax.text.encoder import TextEncoder, encode_captions

_log = logging.getLogger(__name__)

_CHUNK = 1024  # captions looked up at once, to bound memory


class Outcome(NamedTuple):
    """What `fill_store` did.

    `num_captions` counts the distinct captions asked for, `num_truncated` those of them
    that were longer than the encoder's max_length; `kept` is True if a store was there
    that had them all.
    """

    num_captions: int
    num_truncated: int
    kept: bool


def read_captions(source: Source) -> Iterator[str]:
    """Yields the caption of each record; a bad record is logged and left out.

    Leaving it out shifts nothing here: a store has no order that anything relies on.
    """
    for index in range(len(source)):
        try:
            yield source[index].caption
        except BadRecordError as error:
            _log.warning("record %d has no usable caption: %s", index, error)


def fill_store(
    encoder: TextEncoder,
    captions: Iterable[str],
    store_dir: str | os.PathLike,
    batch_size: int = 64,
) -> Outcome:
    """Makes the store, or keeps one that the same encoder made for these captions.

    A store that lacks captions is not overwritten: it may serve another run. What an
    interrupted job leaves is not a store yet, and is written anew.

    Args:
      encoder: from `load_encoder`.
      captions: in any order, repeated or not.
      store_dir: folder of the store; made if missing.
      batch_size: captions per call of the encoder.

    Raises:
      UserError: if there is no caption, or the folder holds a store that was made
        differently or lacks captions.
    """
    distinct = list(dict.fromkeys(caption for caption in captions if caption))
    if not distinct:
        raise UserError("there are no captions to embed, or all are empty; give some")
    manifest = Manifest(
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        tokenizer=encoder.tokenizer,
        width=encoder.width,
        max_length=encoder.max_length,
    )
    if os.path.exists(os.path.join(store_dir, "manifest.json")):
        _check_store(store_dir, manifest, distinct)
        return Outcome(len(distinct), num_truncated=0, kept=True)
    before = encoder.tokenize.num_truncated
    embeddings = encode_captions(encoder, distinct, batch_size)
    progress = tqdm(embeddings, "embedding", len(distinct), unit=" captions")
    # `iter`, because a tqdm object has a length and so looks as if it could be read
    # twice: the tests' type checker would take its first item.
    write_store(store_dir, manifest, iter(progress))
    truncated = encoder.tokenize.num_truncated - before
    return Outcome(len(distinct), truncated, kept=False)


def _check_store(
    store_dir: str | os.PathLike, manifest: Manifest, captions: list[str]
) -> None:
    """Refuses a finished store that was made differently or lacks captions."""
    advice = "delete it to make it anew, or give another folder"
    old = read_manifest(store_dir)
    uncounted = {"num_captions": 0, "num_shards": 0}
    made, wanted = (
        dataclasses.asdict(dataclasses.replace(each, **uncounted))
        for each in (old, manifest)
    )
    differences = [
        f"{field} {made[field]!r}, now {wanted[field]!r}"
        for field in made
        if made[field] != wanted[field]
    ]
    if differences:
        raise UserError(
            f"the store {store_dir} was made with {'; '.join(differences)}; {advice}"
        )
    store = EmbeddingStore(store_dir, cache_size=0)
    try:
        for start in range(0, len(captions), _CHUNK):
            store.lookup(captions[start : start + _CHUNK])
    except UserError as error:
        raise UserError(
            f"the store {store_dir} has {old.num_captions} captions but not all of the "
            f"{len(captions)} asked for; {advice}"
        ) from error
