"""Weights that are named by a path or a URL, and their checksum.

    PATH                     a file on this machine
    PATH#sha256=HEX          the same, refused if it is another file
    URL#sha256=HEX           fetched once into the cache folder; the checksum is a must

A figure is worth what its weights are, so whatever is fetched is checked, and every
manifest has the sha256 of the file that was used.
"""

import hashlib
import re
import urllib.request
from pathlib import Path
from typing import NamedTuple

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_TIMEOUT_SEC = 60


class WeightsFile(NamedTuple):
    """A file of weights on this machine and the sha256 of its bytes, in hex."""

    path: Path
    sha256: str


def find_file(text: str) -> WeightsFile:
    """Returns the file that a text names, fetched now if it is not there yet.

    Args:
      text: in one of the forms above.

    Raises:
      UserError: there is no such file, it cannot be fetched, a URL has no checksum, or
        the file has another one.
    """
    place, _, wanted = text.partition("#sha256=")
    wanted = wanted.lower()
    if "#sha256=" in text and not _SHA256.fullmatch(wanted):
        raise UserError(
            f"{text} ends in {wanted!r}, which is no sha256; give 64 hexadecimal digits"
        )
    if place.startswith(("http://", "https://")):
        return _fetched(place, wanted)
    path = Path(place).expanduser()
    if not path.is_file():
        raise UserError(
            f"there is no weights file {place}; give a file or URL#sha256=HEX"
        )
    return _checked(path, wanted, "give the file that the checksum is of")


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Returns one hash of all weights in a folder, in hex.

    It is of the lines that `sha256sum` prints for them, in the order of their names.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fetched(url: str, wanted: str) -> WeightsFile:
    name = url.split("?")[0].rstrip("/").rpartition("/")[2]
    if not wanted:
        raise UserError(
            f"{url} has no checksum; give {url}#sha256=HEX, the sha256 of the file as "
            "its publisher states it"
        )
    if not name.endswith(_SUFFIXES):
        raise UserError(
            f"{url} does not end in {', '.join(_SUFFIXES)}; give the URL of the file"
        )
    # The checksum is a part of the name: another file under the same URL is another.
    path = cache_dir() / "weights" / f"{wanted[:16]}-{name}"
    if path.is_file():
        return _checked(path, wanted, "delete it")
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, partial)
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        raise UserError(
            f"{url} could not be fetched ({error}); try again, or fetch it by hand and "
            f"put it at {path}"
        ) from error
    checked = _checked(partial, wanted, "give the file's own checksum")
    partial.replace(path)
    return checked._replace(path=path)


def _download(url: str, path: Path) -> None:
    print(f"fetching {url} (once)", flush=True)
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SEC) as answer,
        path.open("wb") as file,
    ):
        while chunk := answer.read(1 << 20):
            file.write(chunk)


def _checked(path: Path, wanted: str, advice: str) -> WeightsFile:
    found = file_sha256(path)
    if wanted and found != wanted:
        raise UserError(f"{path} has the sha256 {found}, not {wanted}; {advice}")
    return WeightsFile(path, found)
