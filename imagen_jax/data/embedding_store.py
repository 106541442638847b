"""Reads an embedding store: captions to the embeddings that were made beforehand.

`store_format` says what is in a store, `store_writer` writes it, and
`imagen_jax.embedding.job` fills it. A shard is opened when a caption of it is first
looked up: its index is memory-mapped, its records are read one at a time. Of a store in
a bucket the manifest is read directly; the index and records of a shard are copied to
the local disk when the shard is first opened (see `remote`).
"""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import BFloat16, Bool

from imagen_jax.data.remote import open_folder
from imagen_jax.data.store_format import (
    Manifest,
    caption_hash,
    read_manifest,
    shard_of,
    shard_stem,
)
from imagen_jax.data.store_records import decode_record
from imagen_jax.data.store_shard import find_record, load_index, open_records
from imagen_jax.data.store_writer import write_store
from imagen_jax.errors import UserError

__all__ = ["EmbeddingStore", "Manifest", "write_store"]

# Two files each: together below 1024, the usual limit of open files in a process.
_MAX_OPEN_SHARDS = 384


class _Shard(NamedTuple):
    index: np.ndarray
    records: Any


class EmbeddingStore:
    """Reads a store; safe to use from several threads, and picklable.

    Attributes:
      manifest: what made the store.
    """

    def __init__(self, directory: str | os.PathLike, cache_size: int = 4096):
        """Opens a store; reads its manifest only.

        Args:
          directory: of a finished store; may be a gs:// or s3:// URL.
          cache_size: captions kept in memory, at least 0.

        Raises:
          UserError: if there is no finished store.
        """
        self._folder = open_folder(directory)
        self._directory = self._folder.path
        self._cache_size = cache_size
        self.manifest = read_manifest(self._folder)
        self._shards: OrderedDict[int, _Shard] = OrderedDict()
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def lookup(
        self, captions: Sequence[str]
    ) -> tuple[BFloat16[np.ndarray, "b n d"], Bool[np.ndarray, "b n"]]:
        """Returns (embed, mask) of each caption, padded with zeros to max_length.

        Args:
          captions: any number, repeats allowed; "" gives the null text.

        Raises:
          UserError: if one is not in the store (the text names it), or its shard is
            damaged.
        """
        shape = (len(captions), self.manifest.max_length)
        embed = np.zeros((*shape, self.manifest.width), ml_dtypes.bfloat16)
        mask = np.zeros(shape, bool)
        mask[:, 0] = True  # all there is to the null text
        found = self._embeddings({caption for caption in captions if caption})
        for i, caption in enumerate(captions):
            if caption:
                valid = found[caption]
                embed[i, : len(valid)] = valid
                mask[i, : len(valid)] = True
        return embed, mask

    def missing(self, captions: Iterable[str]) -> list[str]:
        """Returns the captions that the store lacks, from its indices alone."""
        return self._find(caption for caption in captions if caption)[1]

    def _embeddings(self, captions: set[str]) -> dict[str, np.ndarray]:
        with self._lock:
            found = {c: self._cache[c] for c in captions if c in self._cache}
            for caption in found:
                self._cache.move_to_end(caption)
        read = self._read(sorted(captions - found.keys()))
        with self._lock:
            self._cache.update(read)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return found | read

    def _read(self, captions: list[str]) -> dict[str, np.ndarray]:
        """Returns caption -> embedding [n d] from disk, one read a shard."""
        places, missing = self._find(captions)
        if missing:
            raise UserError(
                f"the embedding store {self._directory} lacks {len(missing)} of "
                f"{len(captions)} captions, for example {missing[0]!r}; embed the "
                "captions of this data set first"
            )
        embeddings = {}
        for shard, numbers in places.items():
            with self._damage_explained(shard):
                for record in self._shard(shard).records.read(numbers):
                    caption, embed = decode_record(
                        record, self.manifest.width, self.manifest.dtype
                    )
                    embeddings[caption] = embed
        return embeddings

    def _find(self, captions: Iterable[str]) -> tuple[dict[int, list[int]], list[str]]:
        """Returns (shard -> record numbers, captions that are not there)."""
        keys: dict[int, list[tuple[str, bytes]]] = {}
        for caption in captions:
            key = caption_hash(caption)
            shard = shard_of(key, self.manifest.num_shards)
            keys.setdefault(shard, []).append((caption, key))
        places: dict[int, list[int]] = {}
        missing = []
        for shard, wanted in keys.items():
            with self._damage_explained(shard):
                index = self._shard(shard).index
                for caption, key in wanted:
                    number = find_record(index, key)
                    if number is None:
                        missing.append(caption)
                    else:
                        places.setdefault(shard, []).append(number)
        return places, missing

    def _shard(self, shard: int) -> _Shard:
        with self._lock:
            if shard not in self._shards:
                stem = shard_stem(shard, self.manifest.num_shards)
                key = self.manifest.shard_sha256[shard]
                self._shards[shard] = _Shard(
                    load_index(self._folder.local(stem + ".index.npy", key)),
                    open_records(self._folder.local(stem + ".array_record", key)),
                )
                while len(self._shards) > _MAX_OPEN_SHARDS:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(shard)
            return self._shards[shard]

    @contextlib.contextmanager
    def _damage_explained(self, shard: int) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(
                f"shard {shard} of the embedding store {self._directory} cannot be "
                f"read ({error}); python -m imagen_jax.embed --verify "
                f"--store={self._directory} names all bad shards and says what to do"
            ) from error

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Returns how to open it again in another process."""
        return type(self), (self._directory, self._cache_size)
