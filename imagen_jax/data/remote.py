"""Folders on this disk or in a bucket, behind one interface.

A path with a scheme (`gs://bucket/dir`, `s3://bucket/dir`) is opened by fsspec, with
the credentials that gcsfs and s3fs find by themselves; any other is a local folder.

Direct: listing, deleting, and the small files (`read`, `write`, `create`).
Whole: large files are made on the local disk and renamed or uploaded (`put`), so that
nobody ever sees half a file.
Cached: `local` gives a path to read from at random. A file of a bucket is copied once
into $IMAGEN_JAX_CACHE/stores (or ~/.cache/imagen_jax/stores), from where it may be
deleted at any time when no program uses it.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

_SCRATCH = "unfinished-"


def open_folder(path: str | os.PathLike) -> "Folder":
    """Returns the folder at a path or URL; it need not exist yet.

    Raises:
      UserError: if the path has a scheme that no installed package opens.
    """
    path = os.fspath(path)
    return BucketFolder(path) if "://" in path else LocalFolder(path)


class LocalFolder:
    """A folder of this machine, or one that it mounts.

    Attributes:
      path: as given.
    """

    def __init__(self, path: str):
        """Opens nothing yet."""
        self.path = path

    def names(self) -> set[str]:
        """Returns what is in the folder; nothing if there is no folder."""
        try:
            return set(os.listdir(self.path))
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes | None:
        """Returns the contents of a small file, None if it is not there.

        Raises:
          UserError: it is there and cannot be read.
        """
        path = Path(self.path, name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:  # a folder of that name, or not allowed
            raise UserError(
                f"{path} cannot be read ({error.strerror}); allow it to be read, or "
                "delete it"
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file whole, in the place of one that may be there."""
        with self._written(name, data) as file:
            self.put(file, name)

    def create(self, name: str, data: bytes) -> bool:
        """Returns whether it wrote a small file; False if one was there already."""
        with self._written(name, data) as file:
            try:
                os.link(file, Path(self.path, name))  # unlike rename, exclusive
            except FileExistsError:
                return False
        return True

    def put(self, file: str | os.PathLike, name: str) -> None:
        """Moves a finished file from `scratch` into the folder."""
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())  # a marker must not survive what it vouches for
        os.replace(file, Path(self.path, name))

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        Path(self.path, name).unlink(missing_ok=True)

    def local(self, name: str, key: str) -> str:
        """Returns where to read a large file; `key` names its contents."""
        del key  # nothing is copied
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[str]:
        """Yields where to read a large file, as it is now, within the block."""
        yield os.path.join(self.path, name)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Yields a folder to make files in; what is left in it is deleted."""
        os.makedirs(self.path, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self.path) as scratch:
            yield scratch

    def clean(self) -> None:
        """Deletes the scratch folders that killed jobs have left behind."""
        for name in self.names():
            if name.startswith(_SCRATCH):
                shutil.rmtree(Path(self.path, name), ignore_errors=True)

    @contextlib.contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[Path]:
        # Not in a scratch folder: another host may clean those up at this moment.
        os.makedirs(self.path, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(path, 0o644)  # as any other file; mkstemp's is for one's own eyes
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)


class BucketFolder:
    """A folder in a bucket; the methods are those of `LocalFolder`.

    Attributes:
      path: the URL.
    """

    def __init__(self, path: str):
        """Makes the client; reaches the bucket only when something is read.

        Raises:
          UserError: if no installed package opens such URLs.
        """
        fsspec = import_optional("fsspec", "cloud")
        self.path = path.rstrip("/")
        try:
            # Without its cache of listings: other hosts write here too.
            self._files, self._root = fsspec.url_to_fs(
                self.path, use_listings_cache=False
            )
        except ImportError as error:
            raise UserError(
                f"{path} cannot be opened ({error}); the packages for gs:// and s3:// "
                'come with pip install "imagen_jax[cloud]"'
            ) from error
        except ValueError as error:
            raise UserError(
                f"{path} cannot be opened ({error}); give a local folder, gs://... or "
                "s3://..."
            ) from error

    def names(self) -> set[str]:
        """Returns what is in the folder; nothing if there is no folder."""
        with self._errors_explained():
            try:
                found: list[Any] = self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        return {entry.rstrip("/").rpartition("/")[2] for entry in found}

    def read(self, name: str) -> bytes | None:
        """Returns the contents of a small file, None if it is not there."""
        with self._errors_explained():
            try:
                return self._files.cat_file(self._url(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file whole, in the place of one that may be there."""
        with self._errors_explained():
            self._files.pipe_file(self._url(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Returns whether it wrote a small file; False if one was there already."""
        with self._errors_explained():
            try:
                self._files.pipe_file(self._url(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def put(self, file: str | os.PathLike, name: str) -> None:
        """Uploads a finished file and deletes it here."""
        with self._errors_explained():
            self._files.put_file(os.fspath(file), self._url(name))
        os.remove(file)

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        with self._errors_explained(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._url(name))

    def local(self, name: str, key: str) -> str:
        """Returns the local copy of a large file, made now if there is none.

        Args:
          name: of the file.
          key: names its contents, so that another version is another copy.
        """
        url_hash = hashlib.sha256(self.path.encode()).hexdigest()
        folder = cache_dir() / "stores" / url_hash[:16]
        copy = folder / f"{key[:16]}-{name}"
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
                fetched = os.path.join(scratch, name)
                self._fetch(name, fetched)
                os.replace(fetched, copy)
        return str(copy)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[str]:
        """Yields where to read a large file, as it is now, within the block."""
        with self.scratch() as scratch:
            fetched = os.path.join(scratch, name)
            self._fetch(name, fetched)
            yield fetched

    @contextlib.contextmanager
    def scratch(self) -> Iterator[str]:
        """Yields a local folder to make files in; what is left in it is deleted."""
        with tempfile.TemporaryDirectory(prefix="imagen_jax-") as scratch:
            yield scratch

    def clean(self) -> None:
        """Does nothing: no scratch is in the bucket."""

    def _fetch(self, name: str, file: str) -> None:
        with self._errors_explained(FileNotFoundError):
            self._files.get_file(self._url(name), file)

    def _url(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _errors_explained(self, *expected: type[Exception]) -> Iterator[None]:
        try:
            yield
        except expected:
            raise
        except Exception as error:  # each service has exceptions of its own
            raise UserError(
                f"{self.path} cannot be used ({type(error).__name__}: {error}); check "
                "the name, the network and this machine's credentials"
            ) from error


Folder = LocalFolder | BucketFolder
