"""Checks a finished store: every checksum, every record, every entry of an index."""

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from imagen_jax.data.remote import Folder, open_folder
from imagen_jax.data.store_format import (
    MANIFEST,
    Manifest,
    caption_hash,
    parse_marker,
    read_manifest,
    shard_of,
    shard_stem,
)
from imagen_jax.data.store_records import decode_record
from imagen_jax.data.store_shard import find_record, load_index, open_records
from imagen_jax.data.store_writer import file_sha256
from imagen_jax.errors import UserError

_LISTED = 8  # bad shards in the sentence; all of them are printed
_READ = 256  # records read at once


def verify_store(store_dir: str | os.PathLike) -> Manifest:
    """Returns the manifest of a store in which all is well; prints each bad shard.

    Files in a bucket are read from there, not from a local copy.

    Args:
      store_dir: folder or URL of a finished store.

    Raises:
      UserError: if a shard is bad, or the store is not finished; the text says what
        to do.
    """
    folder = open_folder(store_dir)
    manifest = read_manifest(folder)
    bad = []
    num_captions = 0
    for shard in tqdm(range(manifest.num_shards), "verifying", unit=" shards"):
        try:
            num_captions += _verify_shard(folder, manifest, shard)
        except (_BadShardError, OSError, RuntimeError, ValueError) as error:
            bad.append(shard_stem(shard, manifest.num_shards))
            tqdm.write(f"{bad[-1]}: {error}")
    if bad:
        more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise UserError(
            f"{len(bad)} of {manifest.num_shards} shards of {folder.path} are bad: "
            f"{', '.join(bad[:_LISTED])}{more}; delete {MANIFEST} and the .json of "
            "each, then run the command that made the store: it makes these anew"
        )
    if num_captions != manifest.num_captions:
        raise UserError(
            f"{folder.path}/{MANIFEST} counts {manifest.num_captions} captions, the "
            f"shards hold {num_captions}; delete {MANIFEST} and run the command that "
            "made the store"
        )
    return manifest


class _BadShardError(Exception):
    """What is wrong with a shard."""


def _verify_shard(folder: Folder, manifest: Manifest, shard: int) -> int:
    """Returns the number of captions of a shard in which all is well."""
    stem = shard_stem(shard, manifest.num_shards)
    data = folder.read(stem + ".json")
    if data is None:
        raise _BadShardError("its marker is missing")
    if hashlib.sha256(data).hexdigest() != manifest.shard_sha256[shard]:
        raise _BadShardError("its marker is not the one that the manifest knows")
    marker = parse_marker(data, f"{folder.path}/{stem}.json")
    with (
        folder.opened(stem + ".array_record") as records_path,
        folder.opened(stem + ".index.npy") as index_path,
    ):
        for path, wanted in (
            (records_path, marker.records_sha256),
            (index_path, marker.index_sha256),
        ):
            if file_sha256(path) != wanted:
                ending = path.partition(stem)[2]
                raise _BadShardError(f"its {ending} differs from its checksum")
        index = load_index(index_path)
        number = 0
        for number, (caption, embed) in enumerate(_records(records_path, manifest), 1):
            key = caption_hash(caption)
            if shard_of(key, manifest.num_shards) != shard:
                raise _BadShardError(f"{caption!r} belongs to another shard")
            if find_record(index, key) != number - 1:
                raise _BadShardError(f"the index does not find {caption!r}")
            if not 1 <= len(embed) <= manifest.max_length:
                raise _BadShardError(f"{caption!r} has {len(embed)} tokens")
            if not np.isfinite(embed).all():
                raise _BadShardError(f"the embedding of {caption!r} is not finite")
        if not number == len(index) == marker.num_captions:
            raise _BadShardError(
                f"it has {number} records, {len(index)} entries in its index, and "
                f"{marker.num_captions} captions by its marker"
            )
        return number


def _records(path: str, manifest: Manifest) -> Iterator[tuple[str, np.ndarray]]:
    reader = open_records(path)
    for start in range(0, reader.num_records(), _READ):
        stop = min(start + _READ, reader.num_records())
        for record in reader.read(list(range(start, stop))):
            yield decode_record(record, manifest.width, manifest.dtype)
