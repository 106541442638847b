"""Captions' embeddings on disk: the one definition of the format, writer and reader.

The frozen text encoder is the same for every picture that has a caption and for every
epoch, so its output is computed once. A store is a folder:

    manifest.json                                what made it (`Manifest`), written last
    hashes.npy                                   sorted S16: sha256(caption)[:16]
    places.npy                                   uint32 [num_captions 2]: shard, record
    embeddings.array_record-00000-of-00003 ...   records in the order they arrived

A record is, little-endian: uint32 number of tokens, uint32 number of caption bytes, the
caption in UTF-8, then bfloat16 [tokens width], valid tokens only (padding a caption of
12 tokens to 256 would be 20 times the bytes). A caption is stored once, however often
it occurs. Both .npy files are memory-mapped: opening a store of any size is immediate.

The empty caption is never stored. It is the null text, which has one definition: zero
embeddings, mask true at position 0 only (see `imagen_jax.diffusion.guidance`).
"""

import dataclasses
import hashlib
import itertools
import json
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import BFloat16, Bool

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

VERSION = 1
_MANIFEST = "manifest.json"
_HASHES = "hashes.npy"
_PLACES = "places.npy"
_HEADER = struct.Struct("<II")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What made a store; a run refuses a store made for another encoder.

    `width` is the encoder's, `max_length` the number of tokens captions are cut and
    padded to; `num_captions` and `num_shards` are filled in by `write_store`.
    """

    encoder: str
    weights_sha256: str
    tokenizer: str
    width: int
    max_length: int
    dtype: str = "bfloat16"
    cleaning: str = "none"
    num_captions: int = 0
    num_shards: int = 0
    version: int = VERSION


def encode_record(caption: str, embed: BFloat16[np.ndarray, "n d"]) -> bytes:
    """Returns the record of one caption; `embed` has its valid tokens only."""
    text = caption.encode("utf-8")
    return _HEADER.pack(len(embed), len(text)) + text + embed.tobytes()


def decode_record(record: bytes, width: int) -> tuple[str, BFloat16[np.ndarray, "n d"]]:
    """Returns (caption, embedding of its valid tokens); inverts `encode_record`."""
    num_tokens, num_bytes = _HEADER.unpack_from(record)
    start = _HEADER.size + num_bytes
    caption = record[_HEADER.size : start].decode("utf-8")
    embed = np.frombuffer(record, ml_dtypes.bfloat16, num_tokens * width, start)
    return caption, embed.reshape(num_tokens, width)


def _hash(caption: str) -> bytes:
    return hashlib.sha256(caption.encode("utf-8")).digest()[:16]


def _shard_path(directory: str, shard: int, num_shards: int) -> str:
    name = f"embeddings.array_record-{shard:05d}-of-{num_shards:05d}"
    return os.path.join(directory, name)


def write_store(
    directory: str | os.PathLike,
    manifest: Manifest,
    embeddings: Iterable[tuple[str, BFloat16[np.ndarray, "_ _"]]],
    captions_per_shard: int = 65_536,
) -> Manifest:
    """Returns the finished manifest, after writing a store.

    Records stream to disk as they arrive; about 100 bytes a caption stay in memory.
    A folder without its manifest, which is written last, is not a store.

    Args:
      directory: made if missing; must not hold a store yet.
      manifest: what makes the embeddings; its counts are ignored.
      embeddings: (caption, embedding of its valid tokens); repeated captions and the
        empty one are left out.
      captions_per_shard: captions in a file, at least 1.

    Raises:
      UserError: if the folder holds a store, or an embedding has another width than
        the manifest or more tokens than its max_length.
    """
    array_record = _import_array_record()
    directory = os.fspath(directory)
    if os.path.exists(os.path.join(directory, _MANIFEST)):
        encoder = read_manifest(directory).encoder
        raise UserError(
            f"{directory} already holds embeddings by {encoder}; give those by "
            f"{manifest.encoder} a folder of their own, or delete it first"
        )
    os.makedirs(directory, exist_ok=True)
    hashes: list[bytes] = []
    parts: list[str] = []
    records = _unique_records(embeddings, manifest)
    for first in records:  # one turn a shard; the inner loop eats its records
        parts.append(os.path.join(directory, f"unfinished-{len(parts):05d}"))
        # Not compressed: bfloat16 activations hardly shrink. Groups of one record
        # are what makes random access cheap.
        writer = array_record.ArrayRecordWriter(parts[-1], "group_size:1,uncompressed")
        rest = itertools.islice(records, captions_per_shard - 1)
        for key, record in itertools.chain([first], rest):
            hashes.append(key)
            writer.write(record)
        writer.close()
    for shard, part in enumerate(parts):
        os.replace(part, _shard_path(directory, shard, len(parts)))
    _write_index(directory, hashes, captions_per_shard)
    manifest = dataclasses.replace(
        manifest, num_captions=len(hashes), num_shards=len(parts)
    )
    unfinished = os.path.join(directory, "unfinished-" + _MANIFEST)
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(manifest), file, indent=2)
    os.replace(unfinished, os.path.join(directory, _MANIFEST))
    return manifest


def _unique_records(
    embeddings: Iterable[tuple[str, np.ndarray]], manifest: Manifest
) -> Iterator[tuple[bytes, bytes]]:
    """Yields (hash, record) of each caption when it first occurs."""
    seen = set()
    for caption, embed in embeddings:
        key = _hash(caption)
        if not caption or key in seen:
            continue
        num_tokens, width = embed.shape
        if width != manifest.width or not 1 <= num_tokens <= manifest.max_length:
            raise UserError(
                f"the embedding of {caption!r} has {num_tokens} tokens of width "
                f"{width}; the manifest allows 1 to {manifest.max_length} tokens of "
                f"width {manifest.width}"
            )
        seen.add(key)
        yield key, encode_record(caption, embed)


def _write_index(directory: str, hashes: list[bytes], captions_per_shard: int) -> None:
    keys = np.frombuffer(b"".join(hashes), "S16")
    order = np.argsort(keys)
    places = np.stack(np.divmod(order, captions_per_shard), axis=-1)
    np.save(os.path.join(directory, _HASHES), keys[order])
    np.save(os.path.join(directory, _PLACES), places.astype(np.uint32))


def read_manifest(directory: str | os.PathLike) -> Manifest:
    """Returns the manifest of a finished store.

    Raises:
      UserError: if there is no finished store of this version.
    """
    path = os.path.join(os.fspath(directory), _MANIFEST)
    if not os.path.exists(path):
        raise UserError(
            f"{os.fspath(directory)} is no finished embedding store: it has no "
            f"{_MANIFEST}; embed the captions first"
        )
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    if fields.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {fields.get('version')}, this program reads "
            f"version {VERSION}; embed the captions again"
        )
    return Manifest(**fields)


class EmbeddingStore:
    """Reads a store; safe to use from several threads, and picklable.

    Attributes:
      manifest: what made the store.
    """

    def __init__(self, directory: str | os.PathLike, cache_size: int = 4096):
        """Opens a store; reads its manifest only.

        Args:
          directory: of a finished store.
          cache_size: captions kept in memory, at least 0.

        Raises:
          UserError: if there is no finished store.
        """
        self._directory = os.fspath(directory)
        self._cache_size = cache_size
        self.manifest = read_manifest(self._directory)
        self._hashes = np.load(self._path(_HASHES), mmap_mode="r")
        self._places = np.load(self._path(_PLACES), mmap_mode="r")
        self._readers: dict[int, Any] = {}
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, *, width: int | None = None, encoder: str | None = None) -> None:
        """Refuses a store that does not fit.

        Args:
          width: text width that the network was built for, or None.
          encoder: name of the encoder that sampling will use, or None.

        Raises:
          UserError: if the store was made with another.
        """
        if encoder is not None and encoder != self.manifest.encoder:
            raise UserError(
                f"the embedding store {self._directory} was made by "
                f"{self.manifest.encoder}, the config names {encoder}; embed the "
                "captions again or change the config"
            )
        if width is not None and width != self.manifest.width:
            raise UserError(
                f"the embedding store {self._directory} has width "
                f"{self.manifest.width}, the config says {width}; they must be equal"
            )

    def lookup(
        self, captions: Sequence[str]
    ) -> tuple[BFloat16[np.ndarray, "b n d"], Bool[np.ndarray, "b n"]]:
        """Returns (embed, mask) of each caption, padded with zeros to max_length.

        Args:
          captions: any number, repeats allowed; "" gives the null text.

        Raises:
          UserError: if one is not in the store; the text names it.
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
        if not captions:
            return {}
        keys = np.array([_hash(caption) for caption in captions], "S16")
        at = np.searchsorted(self._hashes, keys)
        known = at < len(self._hashes)
        known[known] = self._hashes[at[known]] == keys[known]
        if not known.all():
            missing = captions[int(np.argmin(known))]
            raise UserError(
                f"the embedding store {self._directory} lacks "
                f"{np.count_nonzero(~known)} of {len(captions)} captions, for example "
                f"{missing!r}; embed the captions of this data set first"
            )
        shards, rows = self._places[at].T
        embeddings = {}
        for shard in np.unique(shards):
            reader = self._reader(int(shard))
            for record in reader.read(rows[shards == shard].tolist()):
                caption, embed = decode_record(record, self.manifest.width)
                embeddings[caption] = embed
        return embeddings

    def _reader(self, shard: int) -> Any:
        with self._lock:
            if shard not in self._readers:
                path = _shard_path(self._directory, shard, self.manifest.num_shards)
                self._readers[shard] = _import_array_record().ArrayRecordReader(
                    path, "readahead_buffer_size:0,max_parallelism:0"
                )
            return self._readers[shard]

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Returns how to open it again in another process."""
        return type(self), (self._directory, self._cache_size)


def _import_array_record() -> Any:
    return import_optional("array_record.python.array_record_module", "quickstart")
