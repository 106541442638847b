"""Captions sorted into shards on the local disk, in constant memory.

How many shards there are may depend on how many captions there are. So all captions are
first written to one file, and then to one file for each shard that is wanted.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from imagen_jax.data.store_format import caption_hash, shard_of
from imagen_jax.errors import UserError

_ENTRY = struct.Struct("<16sI")  # hash, number of bytes; then the caption in UTF-8
_BUFFERED = 2**25  # bytes in memory before they are written to the shards' files


class CaptionSpill:
    """Captions on the local disk.

    Attributes:
      num_captions: captions given, repeated ones counted, empty ones not.
      digest: sum of their hashes modulo 2^128, in hex, whatever their order; equal
        captions give equal digests on every host.
    """

    def __init__(self, directory: str | os.PathLike, captions: Iterable[str]):
        """Writes all captions to one file.

        Args:
          directory: an empty folder, with room for twice the captions' text.
          captions: read once; empty ones are left out.

        Raises:
          UserError: if a caption is no Unicode text, or there is none to embed.
        """
        self._directory = Path(directory)
        self.num_captions = 0
        total = 0
        with open(self._directory / "all", "wb") as file:
            for caption in filter(None, captions):
                try:
                    key = caption_hash(caption)
                except UnicodeEncodeError as error:
                    raise UserError(
                        f"the caption {caption!r} has half a character ({error}); "
                        "correct it where it comes from"
                    ) from error
                text = caption.encode("utf-8")
                file.write(_ENTRY.pack(key, len(text)) + text)
                total += int.from_bytes(key)
                self.num_captions += 1
        if not self.num_captions:
            raise UserError(
                "there are no captions to embed, or all are empty; give some"
            )
        self.digest = f"{total % 2**128:032x}"

    def split(self, num_shards: int, wanted: Callable[[int], bool]) -> None:
        """Sorts the captions into shards; those not wanted are dropped.

        Args:
          num_shards: of the store.
          wanted: whether a shard is this host's.
        """
        buffers: dict[int, list[bytes]] = {}
        size = 0
        for key, text in self._entries("all"):
            shard = shard_of(key, num_shards)
            if wanted(shard):
                buffers.setdefault(shard, []).append(_ENTRY.pack(key, len(text)) + text)
                size += _ENTRY.size + len(text)
            if size >= _BUFFERED:
                self._append(buffers)
                buffers, size = {}, 0
        self._append(buffers)
        (self._directory / "all").unlink()

    def shard(self, shard: int) -> list[str]:
        """Returns the distinct captions of a shard, in the order they came in."""
        if not (self._directory / str(shard)).exists():
            return []
        distinct = dict(self._entries(str(shard)))
        return [text.decode("utf-8") for text in distinct.values()]

    def _entries(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        with open(self._directory / name, "rb") as file:
            while head := file.read(_ENTRY.size):
                key, num_bytes = _ENTRY.unpack(head)
                yield key, file.read(num_bytes)

    def _append(self, buffers: dict[int, list[bytes]]) -> None:
        # Opened for a moment each: there may be more shards than files can be open.
        for shard, entries in buffers.items():
            with open(self._directory / str(shard), "ab") as file:
                file.writelines(entries)
