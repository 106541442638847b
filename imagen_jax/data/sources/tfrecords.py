"""Records of TFRecord files at random, without TensorFlow.

A record is framed as length (uint64, little-endian), CRC of the length (4 bytes), data,
CRC of the data (4 bytes). The frames are walked once, when the files are opened; the
CRCs are not checked.
"""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from imagen_jax.errors import UserError

_HEADER = 12
_FOOTER = 4


class TfRecords:
    """The records of parts of files, one after another."""

    def __init__(self, parts: Sequence[tuple[str, int, int]]):
        """Walks the frames.

        Args:
          parts: (local path, first record, number of records) of each.

        Raises:
          UserError: if a file is missing, damaged or has fewer records.
        """
        self._paths = [path for path, _, _ in parts]
        starts = [_starts(path)[skip : skip + take + 1] for path, skip, take in parts]
        for (path, skip, take), found in zip(parts, starts, strict=True):
            if len(found) != take + 1:
                raise UserError(
                    f"{path} has {skip + len(found) - 1} records, its data set says "
                    f"{skip + take} or more; prepare the data set again"
                )
        self._starts = starts
        self._ends = np.cumsum([take for _, _, take in parts])

    def __len__(self) -> int:
        """Returns the number of records."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> bytes:
        """Returns the data of record `index`, 0 <= index < len(self)."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        starts = self._starts[part]
        number = index - int(self._ends[part])  # from the end: negative
        begin, end = int(starts[number - 1]), int(starts[number])
        with open(self._paths[part], "rb", buffering=0) as file:
            data = os.pread(file.fileno(), end - begin, begin)
        return data[_HEADER:-_FOOTER]


def _starts(path: str) -> Int64[np.ndarray, " n"]:
    """Returns where each record of a file begins, and where the last one ends."""
    starts, at = [0], 0
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while at < size:
                header = os.pread(file.fileno(), _HEADER, at)
                length = int.from_bytes(header[:8], "little")
                at += _HEADER + length + _FOOTER
                if at > size:
                    raise UserError(
                        f"{path} is no whole TFRecord file: record {len(starts) - 1} "
                        "ends behind the file; prepare the data set again"
                    )
                starts.append(at)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); prepare the data set again, or "
            "copy it to this machine"
        ) from error
    return np.array(starts, np.int64)
