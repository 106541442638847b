"""Pictures in a folder and the folders below it, with their captions.

The captions are in one table (see `folder_table`) or, without one, in a .txt beside
each picture that has its name. Records are in the order of their paths.
"""

import hashlib
import os
import stat
from collections.abc import Iterator

from imagen_jax.data.images import SUFFIXES
from imagen_jax.data.indexing.checks import (
    Candidate,
    Dropped,
    parse_caption,
    printable,
)
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.data.sources.folder_table import read_table
from imagen_jax.errors import UserError

_MAX_CAPTION_FILE = 1 << 20
_UNREADABLE = "folder cannot be read"


class FolderSource:
    """The pictures of a folder as it is when this is opened; a `NamedSource`."""

    def __init__(self, path: str):
        """Lists the folder; reads its table of captions, but no picture.

        Raises:
          UserError: if there is no such folder, a folder in it cannot be read, or its
            table is malformed.
        """
        self._path = path
        self._names, left_out = list_pictures(path)
        for drop in left_out:
            if drop.reason == _UNREADABLE:
                raise UserError(
                    f"{path}/{drop.name} cannot be read ({drop.detail}); allow it to "
                    "be read, or move it elsewhere"
                )
        self._captions = read_table(path, "")

    def __len__(self) -> int:
        """Returns the number of pictures, with captions or without."""
        return len(self._names)

    def name(self, index: int) -> str:
        """Returns the path of picture `index` below the folder."""
        return self._names[index]

    def caption(self, index: int) -> str:
        """Returns the caption of record `index`; see `NamedSource`."""
        return _caption(self._path, self._names[index], self._captions)

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        caption = self.caption(index)
        path = os.path.join(self._path, self._names[index])
        try:
            _check_plain(path)
            with open(path, "rb") as file:
                return Record(file.read(), caption, printable(path))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); start again, so that the "
                "folder is listed anew"
            ) from error


def scan_folder(path: str, options: IndexOptions) -> Iterator[Candidate | Dropped]:
    """Yields the records of a folder; see the module.

    Raises:
      UserError: if there is no such folder, or its table is malformed.
    """
    names, left_out = list_pictures(path)
    captions = read_table(path, options.caption_column)
    yield from left_out
    for name in names:
        try:
            yield _candidate(path, name, _caption(path, name, captions))
        except BadRecordError as error:
            yield Dropped(name, error.reason, str(error))
    if captions is not None:
        for name in sorted(set(captions) - set(names)):
            yield Dropped(name, "no picture")


def _candidate(folder: str, name: str, caption: str) -> Candidate:
    path = os.path.join(folder, name)

    def read(num_bytes: int) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read(num_bytes)
        except OSError as error:
            raise BadRecordError("file cannot be read", str(error)) from error

    try:
        status = _check_plain(path)
    except OSError as error:  # a link to nothing
        raise BadRecordError("file cannot be read", str(error)) from error
    return Candidate(name, caption, 0, status.st_size, read, status.st_mtime_ns)


def _check_plain(path: str) -> os.stat_result:
    """Returns a file's status; refuses what would block or never end when read."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise BadRecordError("not a plain file")
    return status


def list_pictures(path: str) -> tuple[list[str], list[Dropped]]:
    """Returns (paths of the pictures below a folder, sorted; folders left out).

    Hidden files and folders are passed over; links to folders are not followed.

    Raises:
      UserError: if there is no such folder, or no picture in it.
    """
    left_out: list[Dropped] = []
    names = sorted(_walk(path, SUFFIXES, left_out))
    if not names:
        raise UserError(
            f"{path} is no folder with pictures; give one that holds "
            f"{', '.join(suffix[1:] for suffix in SUFFIXES)} files"
        )
    return names, left_out


def _walk(
    path: str, suffixes: tuple[str, ...], left_out: list[Dropped]
) -> Iterator[str]:
    """Yields the paths of files below a folder; notes the folders left out."""

    def note(error: OSError) -> None:
        name = os.path.relpath(error.filename, path)
        left_out.append(Dropped(name, _UNREADABLE, str(error.strerror)))

    for folder, subfolders, files in os.walk(path, onerror=note):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in filter(
            os.path.islink, (os.path.join(folder, s) for s in subfolders)
        ):
            left_out.append(Dropped(os.path.relpath(name, path), "link to a folder"))
        for name in files:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), path)


def folder_stamp(path: str) -> tuple[int, str]:
    """Returns (bytes, hash of names, sizes and times) of all that records are made of.

    A file more, less or changed gives another hash.
    """
    total, digest = 0, hashlib.sha256()
    for name in sorted(_walk(path, (*SUFFIXES, ".txt", ".csv", ".tsv", ".jsonl"), [])):
        status = os.stat(os.path.join(path, name), follow_symlinks=False)
        total += status.st_size
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return total, digest.hexdigest()


def _caption(folder: str, name: str, captions: dict[str, str] | None) -> str:
    if captions is not None:
        if name not in captions:
            raise BadRecordError("no caption")
        return parse_caption(captions[name].encode("utf-8", "surrogatepass"))
    path = os.path.join(folder, os.path.splitext(name)[0] + ".txt")
    try:
        size = _check_plain(path).st_size
        if size > _MAX_CAPTION_FILE:
            raise BadRecordError("caption too long", f"{size} bytes")
        with open(path, "rb") as file:
            return parse_caption(file.read())
    except FileNotFoundError:
        raise BadRecordError("no caption") from None
    except OSError as error:
        raise BadRecordError("file cannot be read", str(error)) from error
