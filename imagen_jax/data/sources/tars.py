"""Records of a tar, as webdataset and img2dataset write them.

The members of one record share their name up to the last dot: 00012.jpg with 00012.txt
(the caption) or 00012.json (an object with "caption" or "text"), in any order. Nothing
is unpacked, so a member's name leads nowhere; what could not be a plain file of a data
set (links, devices, names that leave the folder) is counted all the same.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from imagen_jax.data.images import SUFFIXES
from imagen_jax.data.indexing.checks import (
    Candidate,
    Dropped,
    parse_caption,
    parse_json_caption,
)
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError

_CAPTIONS = (".txt", ".json")
_MAX_CAPTION_FILE = 1 << 20
_BLOCK = 512


class _Member(NamedTuple):
    offset: int
    size: int


_Samples = dict[str, dict[str, _Member]]


def scan_tar(path: str, options: IndexOptions) -> Iterator[Candidate | Dropped]:
    """Yields the records of a local tar, in the order of their first members.

    A damaged tar gives the records before the damage, and one `Dropped` without a name.
    A `Candidate` can be read until the next one is asked for.

    Args:
      path: of a tar that is not compressed.
      options: `caption_column` is the key of captions in .json members.
    """
    with open(path, "rb") as file:
        samples: _Samples = {}
        yield from _read_members(file, os.path.getsize(path), samples)
        for index, (name, members) in enumerate(samples.items()):
            pictures = [suffix for suffix in members if suffix in SUFFIXES]
            yield from (
                Dropped(name + suffix, "second picture of a record")
                for suffix in pictures[1:]
            )
            if not pictures:
                yield Dropped(name, "no picture")
                continue
            picture = members[pictures[0]]
            try:
                caption = _caption(file, members, options.caption_column, index)
            except BadRecordError as error:
                yield Dropped(name, error.reason, str(error))
                continue
            read = _reader(file, picture)
            yield Candidate(name, caption, picture.offset, picture.size, read)


def _read_members(file: BinaryIO, size: int, samples: _Samples) -> Iterator[Dropped]:
    """Fills `samples`; yields what is no member of a record."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # It would keep every header in memory.
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                if archive.offset <= end:
                    raise tarfile.ReadError("a member of negative size")
                end = archive.offset
                if dropped := _sort_in(member, size, samples):
                    yield dropped
            end = archive.offset
    except Exception as error:  # damaged headers raise many built-in exceptions
        yield Dropped("", "archive is damaged", f"{type(error).__name__}: {error}")
        return
    # tarfile takes most damage, and the end of the first of two joined tars, for the
    # end of the archive. All that may follow is zeros.
    file.seek(end)
    rest = file.read(40 * _BLOCK)
    if any(rest):
        yield Dropped("", "archive is damaged", f"no member at byte {end}")
    elif len(rest) < _BLOCK:
        # A file that was cut between two members looks whole in every other way.
        yield Dropped("", "archive is damaged", f"no end mark at byte {end}")


def _sort_in(member: tarfile.TarInfo, size: int, samples: _Samples) -> Dropped | None:
    """Adds a member to `samples`, or returns why it is none of a record's."""
    name = member.name
    if member.isdir():
        return None
    if name.startswith("/") or ".." in name.split("/"):
        return Dropped(name, "name leaves the archive")
    if not member.isreg() or member.issparse():
        return Dropped(name, "not a plain file")
    if member.offset_data + member.size > size:
        return Dropped(name, "archive is damaged", "it ends within this member")
    stem, suffix = os.path.splitext(name)
    suffix = suffix.lower()
    if suffix in SUFFIXES + _CAPTIONS:
        members = samples.setdefault(stem, {})
        if suffix in members:
            return Dropped(name, "name occurs twice")
        members[suffix] = _Member(member.offset_data, member.size)
    return None


def _caption(file: BinaryIO, members: dict[str, _Member], key: str, index: int) -> str:
    found = next((suffix for suffix in _CAPTIONS if suffix in members), None)
    if found is None:
        raise BadRecordError("no caption")
    member = members[found]
    if member.size > _MAX_CAPTION_FILE:
        raise BadRecordError("caption too long", f"{member.size} bytes")
    data = _reader(file, member)(member.size)
    return (
        parse_caption(data) if found == ".txt" else parse_json_caption(data, key, index)
    )


def _reader(file: BinaryIO, member: _Member) -> Callable[[int], bytes]:
    def read(num_bytes: int) -> bytes:
        return os.pread(file.fileno(), min(num_bytes, member.size), member.offset)

    return read
