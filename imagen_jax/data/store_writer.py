"""Writes an embedding store, shard by shard; see `store_format` for what is written.

A shard's files are made under the scratch folder and moved in whole, the marker last.
So a shard is either done, with its marker, or to be done again, whenever and however a
job ends; and a store is finished when its manifest is there.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable

import numpy as np
from jaxtyping import BFloat16

from imagen_jax.data.remote import Folder, open_folder
from imagen_jax.data.store_format import (
    MANIFEST,
    PLAN,
    Manifest,
    Marker,
    caption_hash,
    dump_json,
    parse_manifest,
    parse_marker,
    shard_of,
    shard_stem,
)
from imagen_jax.data.store_records import encode_record
from imagen_jax.data.store_shard import create_records, save_index
from imagen_jax.errors import UserError


class ShardWriter:
    """Writes one shard; nothing of it is in the store before `finish`."""

    def __init__(self, folder: Folder, plan: Manifest, shard: int, scratch: str):
        """Opens the shard's file of records.

        Args:
          folder: of the store.
          plan: what makes the embeddings; its counts are ignored.
          shard: number of the shard, below plan.num_shards.
          scratch: from `folder.scratch()`; must stay until `finish`.
        """
        self._folder, self._plan = folder, plan
        self._stem = shard_stem(shard, plan.num_shards)
        self._path = os.path.join(scratch, self._stem)
        self._keys: dict[bytes, None] = {}
        self._writer = create_records(self._path + ".array_record")

    def add(self, caption: str, embed: BFloat16[np.ndarray, "_ _"]) -> None:
        """Appends a caption's record, unless the shard has that caption.

        Args:
          caption: not empty; its hash must be of this shard.
          embed: its valid tokens.

        Raises:
          UserError: if the embedding does not fit the plan, or is not finite.
        """
        num_tokens, width = embed.shape
        plan = self._plan
        if width != plan.width or not 1 <= num_tokens <= plan.max_length:
            raise UserError(
                f"the embedding of {caption!r} has {num_tokens} tokens of width "
                f"{width}; the manifest allows 1 to {plan.max_length} tokens of width "
                f"{plan.width}"
            )
        if not np.isfinite(embed).all():
            raise UserError(
                f"the embedding of {caption!r} is not finite; the encoder's weights "
                "are damaged, or its compute type is too narrow: give another"
            )
        key = caption_hash(caption)
        if key not in self._keys:
            self._keys[key] = None
            self._writer.write(encode_record(caption, embed, plan.dtype))

    def finish(self, num_truncated: int = 0) -> Marker:
        """Returns the shard's marker, after moving the shard into the store.

        Args:
          num_truncated: captions of it that were cut short.
        """
        self._writer.close()
        records, index = self._path + ".array_record", self._path + ".index.npy"
        save_index(index, list(self._keys))
        marker = Marker(
            num_captions=len(self._keys),
            num_truncated=num_truncated,
            records_sha256=file_sha256(records),
            index_sha256=file_sha256(index),
        )
        self._folder.put(records, self._stem + ".array_record")
        self._folder.put(index, self._stem + ".index.npy")
        self._folder.write(self._stem + ".json", dump_json(marker))
        return marker


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the hash of a file's contents, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin_store(folder: Folder, plan: Manifest) -> Manifest:
    """Returns the plan that is in the folder: one made before, else this one.

    Of several hosts that begin at once, one writes it.
    """
    folder.create(PLAN, dump_json(plan))
    begun = read_plan(folder)
    return plan if begun is None else begun


def read_plan(folder: Folder) -> Manifest | None:
    """Returns the plan of the store that was begun in the folder, if one was."""
    data = folder.read(PLAN)
    return None if data is None else parse_manifest(data, f"{folder.path}/{PLAN}")


def read_markers(folder: Folder, plan: Manifest) -> dict[int, Marker]:
    """Returns the marker of each shard that is done."""
    names = folder.names()
    markers = {}
    for shard in range(plan.num_shards):
        name = shard_stem(shard, plan.num_shards) + ".json"
        if name in names and (data := folder.read(name)) is not None:
            markers[shard] = parse_marker(data, f"{folder.path}/{name}")
    return markers


def finish_store(folder: Folder, plan: Manifest) -> Manifest | None:
    """Returns the manifest, written now; None while a shard is not done.

    Every host calls it when its shards are done. The last one finds all of them; two
    that come at once write the same.
    """
    markers = read_markers(folder, plan)
    if len(markers) < plan.num_shards:
        return None
    in_order = [markers[shard] for shard in range(plan.num_shards)]
    manifest = dataclasses.replace(
        plan,
        num_captions=sum(marker.num_captions for marker in in_order),
        num_truncated=sum(marker.num_truncated for marker in in_order),
        shard_sha256=tuple(
            hashlib.sha256(dump_json(marker)).hexdigest() for marker in in_order
        ),
    )
    folder.write(MANIFEST, dump_json(manifest))
    folder.clean()
    return manifest


def write_store(
    directory: str | os.PathLike,
    manifest: Manifest,
    embeddings: Iterable[tuple[str, BFloat16[np.ndarray, "_ _"]]],
    num_shards: int = 1,
) -> Manifest:
    """Returns the finished manifest, after writing embeddings made elsewhere.

    Records stream to disk as they arrive; about 100 bytes a caption stay in memory.
    Unlike `imagen_jax.embedding.job` it cannot go on where it was interrupted.

    Args:
      directory: made if missing; must hold neither a store nor one that was begun.
      manifest: what made the embeddings; its counts are ignored.
      embeddings: (caption, embedding of its valid tokens); repeated captions and the
        empty one are left out.
      num_shards: at least 1.

    Raises:
      UserError: if the folder holds a store, or an embedding does not fit.
    """
    folder = open_folder(directory)
    for name in (MANIFEST, PLAN):
        if (data := folder.read(name)) is not None:
            encoder = parse_manifest(data, f"{folder.path}/{name}").encoder
            raise UserError(
                f"{folder.path} already holds embeddings by {encoder}; give those by "
                f"{manifest.encoder} a folder of their own, or delete it first"
            )
    plan = dataclasses.replace(manifest, num_shards=num_shards)
    with folder.scratch() as scratch:
        writers = [
            ShardWriter(folder, plan, shard, scratch) for shard in range(num_shards)
        ]
        for caption, embed in embeddings:
            if caption:
                shard = shard_of(caption_hash(caption), num_shards)
                writers[shard].add(caption, embed)
        for writer in writers:
            writer.finish()
    finished = finish_store(folder, plan)
    assert finished is not None  # every shard was done just now
    return finished
