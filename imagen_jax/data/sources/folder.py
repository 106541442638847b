"""Pictures in a folder and the folders below it, with their captions.

The captions are in one table (see `folder_table`) or, without one, in a .txt beside
each picture that has its name. Records are in the order of their paths.
"""

import hashlib
import os
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


class FolderSource:
    """The pictures of a folder as it is when this is opened; implements `Source`."""

    def __init__(self, path: str):
        """Lists the folder; reads its table of captions, but no picture.

        Raises:
          UserError: if there is no such folder, or its table is malformed.
        """
        self._path = path
        self._names = list_pictures(path)
        self._captions = read_table(path, "")

    def __len__(self) -> int:
        """Returns the number of pictures, with captions or without."""
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        name = self._names[index]
        caption = _caption(self._path, name, self._captions)
        path = os.path.join(self._path, name)
        try:
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
    names = list_pictures(path)
    captions = read_table(path, options.caption_column)
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
        status = os.stat(path)
    except OSError as error:  # a link to nothing
        raise BadRecordError("file cannot be read", str(error)) from error
    return Candidate(name, caption, 0, status.st_size, read, status.st_mtime_ns)


def list_pictures(path: str) -> list[str]:
    """Returns the paths of the pictures below a folder, sorted.

    Hidden files and folders are left out; links to folders are not followed.

    Raises:
      UserError: if there is no such folder, or no picture in it.
    """
    names = sorted(_walk(path, SUFFIXES))
    if not names:
        raise UserError(
            f"{path} is no folder with pictures; give one that holds "
            f"{', '.join(suffix[1:] for suffix in SUFFIXES)} files"
        )
    return names


def _walk(path: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), path)


def folder_stamp(path: str) -> tuple[int, str]:
    """Returns (bytes, hash of names, sizes and times) of all that records are made of.

    A file more, less or changed gives another hash.
    """
    total, digest = 0, hashlib.sha256()
    for name in sorted(_walk(path, (*SUFFIXES, ".txt", ".csv", ".tsv", ".jsonl"))):
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
    try:
        with open(os.path.join(folder, os.path.splitext(name)[0] + ".txt"), "rb") as f:
            return parse_caption(f.read())
    except FileNotFoundError:
        raise BadRecordError("no caption") from None
    except OSError as error:
        raise BadRecordError("file cannot be read", str(error)) from error
