"""A shard's two files: records in array_record, and the index that finds them.

The index has captions' hashes, sorted, and their record numbers: 20 bytes a caption in
a .npy file that is memory-mapped. So finding one of n captions touches log2(n) pages,
and opening the index none.
"""

import bisect
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from imagen_jax.optional import import_optional

# Without read-ahead; and opening reads 64 KB blocks at the end of the file, where the
# offsets are, instead of the default's 1 MB, most of it records nobody asked for.
_READING = "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:64k"
# Not compressed: bfloat16 activations hardly shrink. Groups of one record are what
# makes random access cheap.
_WRITING = "group_size:1,uncompressed"

# S16 compares as bytes do, and drops trailing zero bytes of what it gives out: keys
# are stripped of theirs before they are compared, which keeps their order.
INDEX_DTYPE = np.dtype([("hash", "S16"), ("record", "<u4")])


def save_index(path: str | os.PathLike, keys: Sequence[bytes]) -> None:
    """Writes the index of a shard.

    Args:
      path: of the file; ends in .npy.
      keys: hash of each record, by record number; no two are equal.
    """
    index = np.empty(len(keys), INDEX_DTYPE)
    index["hash"] = keys
    index["record"] = np.arange(len(keys))
    np.save(path, index[np.argsort(index["hash"])])


def load_index(path: str | os.PathLike) -> np.ndarray:
    """Returns the index [num_captions] of `INDEX_DTYPE`, memory-mapped.

    Raises:
      ValueError: if the file is damaged.
      OSError: if it cannot be read.
    """
    try:
        index = np.lib.format.open_memmap(os.fspath(path), mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header raises many built-in exceptions
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if index.dtype != INDEX_DTYPE or index.ndim != 1:
        raise ValueError(f"an index of {index.dtype}{index.shape}")
    return index


def find_record(index: np.ndarray, key: bytes) -> int | None:
    """Returns the record number of the caption with this hash, None if it is absent."""
    key = key.rstrip(b"\0")
    row = bisect.bisect_left(index, key, key=lambda entry: entry["hash"])
    if row == len(index) or index[row]["hash"] != key:
        return None
    return int(index[row]["record"])


def create_records(path: str | os.PathLike) -> Any:
    """Returns a writer of records: `write(bytes)`, `close()`."""
    return _array_record().ArrayRecordWriter(os.fspath(path), _WRITING)


def open_records(path: str | os.PathLike) -> Any:
    """Returns a reader of records: `num_records()`, `read([numbers])`.

    Any of these may raise RuntimeError if the file is damaged.

    Raises:
      OSError: if there is no such file, which the library would take for an empty one.
    """
    os.stat(path)
    return _array_record().ArrayRecordReader(os.fspath(path), _READING)


def _array_record() -> Any:
    return import_optional("array_record.python.array_record_module", "quickstart")
