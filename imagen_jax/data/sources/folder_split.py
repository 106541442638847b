"""A tenth of a source's records is held out, by a hash of their names.

`index:DIR:held_out` are these, `index:DIR:train` the others; `folder:DIR:...` likewise.
Whether a record is held out depends on its name and on nothing else, so a picture stays
on its side when others are added or removed and when the folder is moved. A name is the
path below the folder (in a tar what a record's members share, in Parquet the row).

Two files with the same picture under different names may come to both sides.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from imagen_jax.data.records import Record, Source
from imagen_jax.errors import UserError

HELD_OUT_SHARE = 0.1

Split = Literal["train", "held_out"]

_SPEC = re.compile(r"(.+?)(?::(train|held_out))?", re.DOTALL)


@runtime_checkable  # the tests check annotations at run time
class NamedSource(Source, Protocol):
    """A source that tells names and captions without reading pictures."""

    def name(self, index: int) -> str:
        """Returns the name of record `index` in its folder or archive."""
        ...

    def caption(self, index: int) -> str:
        """Returns the caption of record `index`.

        Raises:
          BadRecordError: if it has none that can be used.
        """
        ...


def open_split(open_whole: Callable[[str], NamedSource], text: str) -> Source:
    """Returns the source at a path, or its part where the text ends in `:SPLIT`.

    Args:
      open_whole: opens all records at a path.
      text: "PATH", "PATH:train" or "PATH:held_out".

    Raises:
      UserError: as `open_whole`, or if there are too few records to split.
    """
    match = _SPEC.fullmatch(text)
    assert match is not None  # `text` is not empty
    source = open_whole(match[1])
    match match[2]:
        case "train" | "held_out" as split:
            return SplitSource(source, split, where=match[1])
    return source


class SplitSource:
    """One side of a source, in its order; implements `Source`.

    Opening it reads every name once: about 3 seconds for a million records.
    """

    def __init__(self, source: NamedSource, split: Split, where: str):
        """Chooses the records.

        Args:
          source: what is split, at least 2 records.
          split: which side.
          where: names the source in errors.

        Raises:
          UserError: if there are fewer than 2 records.
        """
        if len(source) < 2:
            raise UserError(
                f"{where} holds {len(source)} record, which cannot be split into "
                "train and held_out; give at least 2 pictures with captions"
            )
        held_out = held_out_mask(map(source.name, range(len(source))))
        self._source = source
        self._rows = np.flatnonzero(held_out == (split == "held_out"))

    def __len__(self) -> int:
        """Returns the number of records on this side, at least 1."""
        return len(self._rows)

    def caption(self, index: int) -> str:
        """Returns the caption of record `index`; see `NamedSource`."""
        return self._source.caption(self._row(index))

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        return self._source[self._row(index)]

    def _row(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return int(self._rows[index])


def held_out_mask(names: Iterable[str]) -> Bool[np.ndarray, " n"]:
    """Returns which records are held out: a tenth, at least one and never all.

    Where no hash falls into the tenth (or all do) the lowest hash is held out (the
    highest is not).

    Args:
      names: of at least 2 records.
    """
    hashes = np.array([_hash(name) for name in names], np.uint64)
    mask = hashes < np.uint64(int(HELD_OUT_SHARE * 2**64))
    mask[hashes.argmin()] = True
    if mask.all():
        mask[hashes.argmax()] = False
    return mask


def _hash(name: str) -> int:
    data = name.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
