"""Captions -> embedding store: every distinct caption is embedded once.

A caption is stored under the text it came with, whatever cleaning the tokenizer does to
it: so training, which looks up that text, and sampling, which cleans a prompt in the
same way, get what the encoder makes of it. The empty caption is left out, because it is
the null text, which is defined elsewhere and is not the encoder's output for "".

The unit of work is the shard. Host i of n takes the shards s with s mod n = i, skips
those whose marker is there and writes the others whole. So a job that was killed goes
on by running it again, and hosts share nothing but the folder.
"""

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.remote import Folder, open_folder
from imagen_jax.data.store_format import (
    DTYPES,
    MANIFEST,
    Manifest,
    Marker,
    differences,
    read_manifest,
)
from imagen_jax.data.store_writer import (
    ShardWriter,
    begin_store,
    finish_store,
    read_markers,
    read_plan,
)
from imagen_jax.embedding.encoding import encode_captions, length_step
from imagen_jax.embedding.spill import CaptionSpill
from imagen_jax.errors import UserError
from imagen_jax.text.encoder import TextEncoder

CAPTIONS_PER_SHARD = 16_384

_ADVICE = "delete it to make it anew, or give another folder"


class Outcome(NamedTuple):
    """What `fill_store` did, of the shards that are this host's.

    `num_captions` counts the distinct captions asked for, `num_truncated` those of them
    that were longer than the encoder's max_length; `kept` is True if a finished store
    was there that had them all. `finished` is False while other hosts have shards to
    do; the last one makes the store complete.
    """

    num_captions: int
    num_truncated: int
    kept: bool
    finished: bool = True


def fill_store(
    encoder: TextEncoder,
    captions: Iterable[str],
    store_dir: str | os.PathLike,
    *,
    num_shards: int | None = None,
    dtype: str = "bfloat16",
    batch_size: int = 64,
    host: tuple[int, int] = (0, 1),
) -> Outcome:
    """Makes the store, goes on making it, or keeps one that has all these captions.

    A finished store that lacks captions is not overwritten: it may serve another run.
    One that was begun is gone on with for the same captions only: otherwise shards of
    two data sets would be taken for one.

    Args:
      encoder: from `load_encoder`.
      captions: in any order, repeated or not; the same on every host.
      store_dir: folder or URL of the store; made if missing.
      num_shards: at least 1; None takes that of the store that was begun, else one for
        each `CAPTIONS_PER_SHARD` captions.
      dtype: of what is stored, "bfloat16" or "int8".
      batch_size: captions per call of the encoder, at least 1.
      host: (index, count) of this host among those that fill the store together.

    Raises:
      UserError: if there is no caption, a setting is not allowed, or the folder holds
        a store that was made differently, for other captions, or lacks captions.
    """
    _check_settings(dtype, num_shards, host)
    folder = open_folder(store_dir)
    wanted: dict[str, Any] = {**encoder.identity(), "dtype": dtype}
    if num_shards is not None:
        wanted["num_shards"] = num_shards
    finished = folder.read(MANIFEST) is not None
    begun = read_manifest(folder) if finished else read_plan(folder)
    _check_same(folder, begun, wanted)
    with tempfile.TemporaryDirectory(prefix="imagen_jax-captions-") as directory:
        spill = CaptionSpill(directory, captions)
        plan = begun or _begin(folder, spill, wanted)
        index, count = host
        spill.split(plan.num_shards, lambda shard: shard % count == index)
        mine = range(index, plan.num_shards, count)
        if finished:
            return _check_complete(folder, spill, mine)
        _check_captions(folder, plan, spill)
        step = length_step(spill.num_captions // count, encoder.max_length, batch_size)
        encode = functools.partial(
            encode_captions, encoder, batch_size=batch_size, step=step
        )
        markers = _write_shards(encoder, encode, spill, folder, plan, mine)
    return Outcome(
        num_captions=sum(marker.num_captions for marker in markers),
        num_truncated=sum(marker.num_truncated for marker in markers),
        kept=False,
        finished=finish_store(folder, plan) is not None,
    )


def default_num_shards(num_captions: int) -> int:
    """Returns how many shards so many captions, repeated ones counted, are put into."""
    return -(-num_captions // CAPTIONS_PER_SHARD)


def wait_until_finished(
    store_dir: str | os.PathLike, period_sec: float = 5.0
) -> Manifest:
    """Returns the manifest, when the other hosts have done their shards too.

    Args:
      store_dir: folder or URL of the store.
      period_sec: time between two looks.
    """
    folder = open_folder(store_dir)
    while folder.read(MANIFEST) is None:
        time.sleep(period_sec)
    return read_manifest(folder)


def _begin(folder: Folder, spill: CaptionSpill, wanted: dict[str, Any]) -> Manifest:
    """Returns the plan of a new store; another host's if that was faster."""
    num_shards = default_num_shards(spill.num_captions)
    plan = Manifest(
        **{"num_shards": num_shards, **wanted}, captions_digest=spill.digest
    )
    begun = begin_store(folder, plan)
    _check_same(folder, begun, wanted)
    return begun


def _write_shards(
    encoder: TextEncoder,
    encode: Callable[[list[str]], Iterable[tuple[str, np.ndarray]]],
    spill: CaptionSpill,
    folder: Folder,
    plan: Manifest,
    shards: range,
) -> list[Marker]:
    """Returns the markers of this host's shards, after writing those still to do."""
    markers = read_markers(folder, plan)
    markers = {shard: markers[shard] for shard in shards if shard in markers}
    to_do = [shard for shard in shards if shard not in markers]
    num_done = sum(marker.num_captions for marker in markers.values())
    total = num_done + sum(len(spill.shard(shard)) for shard in to_do)
    progress = tqdm(desc="embedding", initial=num_done, total=total, unit=" captions")
    with progress, folder.scratch() as scratch:
        for shard in to_do:
            writer = ShardWriter(folder, plan, shard, scratch)
            before = encoder.tokenize.num_truncated
            for caption, embed in encode(spill.shard(shard)):
                writer.add(caption, embed)
                progress.update()
            num_truncated = encoder.tokenize.num_truncated - before
            markers[shard] = writer.finish(num_truncated)
    return list(markers.values())


def _check_settings(dtype: str, num_shards: int | None, host: tuple[int, int]) -> None:
    if dtype not in DTYPES:
        raise UserError(f"the dtype to store is {dtype!r}; give {' or '.join(DTYPES)}")
    if num_shards is not None and num_shards < 1:
        raise UserError(f"num_shards is {num_shards}; give at least 1")
    index, count = host
    if not 0 <= index < count:
        raise UserError(
            f"this is host {index} of {count}; give an index from 0 to the count - 1"
        )


def _check_same(folder: Folder, begun: Manifest | None, wanted: dict[str, Any]) -> None:
    """Refuses a store that was made, or begun, differently."""
    if begun is not None and (found := differences(begun, wanted)):
        raise UserError(f"the store {folder.path} was made with {found}; {_ADVICE}")


def _check_captions(folder: Folder, begun: Manifest, spill: CaptionSpill) -> None:
    """Refuses to go on with a store that was begun for other captions."""
    if begun.captions_digest != spill.digest:
        raise UserError(
            f"the store {folder.path} was begun for other captions than these; give "
            f"those again, {_ADVICE}"
        )


def _check_complete(folder: Folder, spill: CaptionSpill, shards: range) -> Outcome:
    """Refuses a finished store that lacks captions of these shards."""
    store = EmbeddingStore(folder.path, cache_size=0)
    num_asked = num_missing = 0
    for shard in shards:
        captions = spill.shard(shard)
        num_asked += len(captions)
        num_missing += len(store.missing(captions))
    if num_missing:
        raise UserError(
            f"the store {folder.path} has {store.manifest.num_captions} captions but "
            f"not all of the {num_asked} asked for ({num_missing} are missing); "
            f"{_ADVICE}"
        )
    return Outcome(num_asked, num_truncated=0, kept=True)
