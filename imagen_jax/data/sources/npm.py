"""Packages of pictures from the npm registry: fetched once, checked, never unpacked.

A tarball is kept in $IMAGEN_JAX_CACHE/npm (or ~/.cache/imagen_jax/npm); on a machine
without network, put it there by hand. The registry is the one that npm would ask:
$npm_config_registry, or https://registry.npmjs.org.
"""

import base64
import hashlib
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError

_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_SEC = 60


class NpmPackage(NamedTuple):
    """A package at one version; `integrity` is base64 of its tarball's SHA-512."""

    name: str
    version: str
    integrity: str


def fetch(package: NpmPackage) -> Path:
    """Returns the package's tarball on this disk, downloaded now if it is not there.

    Raises:
      UserError: if it cannot be had, or is not the one that is meant.
    """
    file_name = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    path = cache_dir() / "npm" / package.name.rpartition("/")[0] / file_name
    if not path.exists():
        registry = os.environ.get("npm_config_registry") or _REGISTRY
        url = f"{registry.rstrip('/')}/{package.name}/-/{file_name}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SEC) as answer:
                data = answer.read()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{url} cannot be fetched ({error}); check the network, or put that "
                f"file at {path}"
            ) from error
        _check(data, package, url)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(unfinished, path)
    else:
        _check(path.read_bytes(), package, str(path))
    return path


def _check(data: bytes, package: NpmPackage, where: str) -> None:
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.integrity:
        raise UserError(
            f"{where} is not {package.name} {package.version}: its SHA-512 is {found}, "
            f"not {package.integrity}; delete it and try again"
        )


def read_members(path: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yields (name, contents) of the plain files whose names start with `prefix`.

    Args:
      path: of a tarball from `fetch`.
      prefix: e.g. "package/icons.json"; is taken off the names.
    """
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and member.name.startswith(prefix):
                yield member.name.removeprefix(prefix), content.read()
