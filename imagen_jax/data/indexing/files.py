"""Files by path or URL: which there are, whether they have changed, and parts of them.

A path with a scheme (gs://, s3://) goes through fsspec. A part of a file is read from
the bucket directly, one request each; an archive that is scanned is fetched whole to
the local disk for as long as that takes.
"""

import collections
import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from typing import Any

from imagen_jax.data.indexing.format import IndexFile
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

ARCHIVES = (".tar", ".parquet")

# What a bucket's listing says of a file that changes when the file does.
_STAMPS = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "created")


def find_inputs(patterns: Sequence[str]) -> list[IndexFile]:
    """Returns the archives and folders of pictures that the patterns name.

    Args:
      patterns: paths or URLs of archives, folders, or globs of these. A folder that
        holds archives stands for them, in the order of their names; another is a
        folder of pictures (local only), whose size and stamp are left open.

    Raises:
      UserError: if one names nothing, or something else.
    """
    inputs: list[IndexFile] = []
    for pattern in patterns:
        is_url = "://" in pattern
        found = _find_remote(pattern) if is_url else _find_local(pattern)
        if not found:
            raise UserError(
                f"{pattern} names no file; give .tar and .parquet files, folders of "
                "them, or a local folder of pictures"
            )
        inputs.extend(found)
    for file in inputs:
        if file.kind == "archive" and not file.path.lower().endswith(ARCHIVES):
            raise UserError(
                f"{file.path} is no .tar or .parquet; give these (tars not "
                "compressed), or a folder of pictures"
            )
    counts = collections.Counter(file.path for file in inputs)
    path, count = counts.most_common(1)[0]
    if count > 1:
        raise UserError(f"{path} is given {count} times; name each file once")
    return inputs


def _find_local(pattern: str) -> list[IndexFile]:
    pattern = os.path.abspath(os.path.expanduser(pattern))
    paths = [pattern]
    if not os.path.exists(pattern):
        paths = sorted(glob.glob(pattern, recursive=True))
    found = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(describe(path))
            continue
        archives = [name for name in os.listdir(path) if _is_archive(name)]
        found.extend(describe(os.path.join(path, name)) for name in sorted(archives))
        if not archives:
            found.append(IndexFile(path, "folder", 0))
    return found


def _is_archive(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.lower().endswith(ARCHIVES) and not name.startswith(".")


def _find_remote(url: str) -> list[IndexFile]:
    with _errors_explained(url):
        files, path = _file_system(url)
        if files.isdir(path):
            infos = _list(files, path)
            names = [name for name in infos if _is_archive(name)]
        else:
            names = files.glob(path)
            infos = {}
            for folder in {name.rpartition("/")[0] for name in names}:
                infos |= _list(files, folder)
        return [
            IndexFile(
                files.unstrip_protocol(name),
                "archive",
                infos[name]["size"],
                _stamp(infos[name]),
            )
            for name in sorted(names)
            if name in infos
        ]


def _list(files: Any, folder: str) -> dict[str, dict[str, Any]]:
    """Returns what a listing says of each file in a folder, by name.

    Always a listing: other calls may tell a file's stamp in another form.
    """
    found = files.ls(folder, detail=True)
    return {info["name"]: info for info in found if info["type"] == "file"}


def describe(path: str) -> IndexFile:
    """Returns a local archive's size and stamp; the file must be there."""
    status = os.stat(path)
    return IndexFile(path, "archive", status.st_size, str(status.st_mtime_ns))


def check_unchanged(files: Sequence[IndexFile], where: str) -> None:
    """Refuses archives that are not what was indexed.

    Args:
      files: of an index; folders and packs are passed over.
      where: names the index in errors.

    Raises:
      UserError: if one is missing or changed.
    """
    archives = [file for file in files if file.kind == "archive"]
    now = {}
    for folder in sorted({f.path.rpartition("/")[0] for f in archives if _is_url(f)}):
        now |= {file.path: file for file in _find_remote(folder)}
    for file in archives:
        found = now.get(file.path)
        if not _is_url(file) and os.path.isfile(file.path):
            found = describe(file.path)
        if found != file:
            change = "has changed since it was indexed" if found else "is missing"
            raise UserError(
                f"{file.path}, of the index {where}, {change}; put it back, or make "
                "the index again by python -m imagen_jax.prepare index"
            )


def read_part(path: str, offset: int, length: int) -> bytes:
    """Returns bytes `offset` to `offset` + `length` of a file; fewer at its end.

    Raises:
      UserError: if the file cannot be read.
    """
    if "://" in path:
        with _errors_explained(path):
            files, name = _file_system(path)
            return files.cat_file(name, start=offset, end=offset + length)
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); put it back, or make the index "
            "again by python -m imagen_jax.prepare index"
        ) from error


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields where to read a file on the local disk, within the block."""
    if "://" in path:
        folder, _, name = path.rpartition("/")
        with open_folder(folder).opened(name) as copy:
            yield copy
    else:
        yield path


def _is_url(file: IndexFile) -> bool:
    return "://" in file.path


def _stamp(info: dict[str, Any]) -> str:
    return next((f"{key}={info[key]}" for key in _STAMPS if info.get(key)), "")


def _file_system(url: str) -> tuple[Any, str]:
    # fsspec keeps one client for each set of arguments, so this costs little.
    return import_optional("fsspec", "cloud").url_to_fs(url, use_listings_cache=False)


@contextlib.contextmanager
def _errors_explained(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each service has exceptions of its own
        raise UserError(
            f"{url} cannot be read ({type(error).__name__}: {error}); check the name, "
            "the network, this machine's credentials, and that the packages for it are "
            'there: pip install "imagen_jax[cloud]"'
        ) from error
