"""Where a run keeps its files: a folder that all its processes share, or a bucket.

A workdir with a scheme (`gs://bucket/run`, `s3://bucket/run`) is in a bucket. Each
process then works in a folder of its own on this machine's disk, in
$IMAGEN_JAX_CACHE/workdirs (or ~/.cache/imagen_jax/workdirs). What must outlive the
machine is uploaded with every checkpoint: the small files (config.json, metrics.jsonl,
logs/, previews/) and the parts of the checkpoint (`data.checkpoint_parts`).

Orbax itself writes to gs:// (committing in another way there) but has no driver for
s3://; this way is one for both, and for whatever else fsspec opens.
"""

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import jax

from imagen_jax.cache import cache_dir
from imagen_jax.data.checkpoint_parts import CheckpointParts
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError
from imagen_jax.retention import StepChoice, choose_step

_CHECKPOINTS = "checkpoints"
_NOT_UPLOADED = (_CHECKPOINTS, "wandb")
_RESUMED = ("config.json", "metrics.jsonl", "wandb_run.json")
_WEIGHTS = "ema.safetensors"  # of a bundle


class Workdir:
    """A folder on a disk that all processes share.

    Attributes:
      path: as given.
      local: where this process reads and writes.
      shared: whether `local` is the same folder for all processes.
    """

    shared = True

    def __init__(self, path: str):
        """Touches nothing yet."""
        self.path = path
        self.local = Path(path)

    def fetch(self) -> None:
        """Makes the folder if it is missing."""
        self.local.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Does nothing: orbax removes what a killed run has left."""

    def sync(self) -> None:
        """Does nothing: all is in its place."""


class BucketWorkdir:
    """A workdir in a bucket; the methods are those of `Workdir`.

    Attributes:
      path: the URL.
      local: the folder of this process; its contents go at the next start.
      checkpoints: those in the bucket.
      shared: False.
    """

    shared = False

    def __init__(self, url: str):
        """Reaches the bucket only when something is read.

        Raises:
          UserError: if no installed package opens such URLs.
        """
        self.path = url.rstrip("/")
        self._root = open_folder(self.path)
        process = jax.process_index()
        self.checkpoints = CheckpointParts(
            f"{self.path}/{_CHECKPOINTS}", process, jax.process_count()
        )
        self.local = _local_root(self.path) / f"process-{process}"
        self._writes_files = process == 0
        self._uploaded: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Empties `local`; process 0 then gets what a run goes on from.

        Raises:
          UserError: the bucket cannot be read.
        """
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir(parents=True)
        for name in _RESUMED if self._writes_files else ():
            if (data := self._root.read(name)) is not None:
                (self.local / name).write_bytes(data)

    def clean(self) -> None:
        """Deletes what killed runs have left in the bucket; process 0 does.

        Raises:
          UserError: the bucket cannot be written: now, not after hours.
        """
        if self._writes_files:
            self._root.write(".claim", b"")
            self._root.delete(".claim")
            self.checkpoints.delete_incomplete()

    def sync(self) -> None:
        """Uploads the small files that are new or have changed; process 0 does."""
        for file in sorted(self.local.rglob("*")) if self._writes_files else ():
            name = file.relative_to(self.local).as_posix()
            unwanted = name.split("/")[0] in _NOT_UPLOADED
            if unwanted or file.name.startswith(".") or not file.is_file():
                continue
            stat = file.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if self._uploaded.get(name) != stamp:
                self._root.write(name, file.read_bytes())
                self._uploaded[name] = stamp


AnyWorkdir = Workdir | BucketWorkdir


def open_workdir(path: str | os.PathLike) -> AnyWorkdir:
    """Returns the workdir at a path or URL; it need not exist yet.

    With several processes call it after they have joined.

    Raises:
      UserError: if no installed package opens such URLs.
    """
    path = os.fspath(path)
    return BucketWorkdir(path) if "://" in path else Workdir(path)


def local_copy(path: str | os.PathLike, step: StepChoice = None) -> Path:
    """Returns a folder to read a stage from: `path`, or a copy of what is at a URL.

    A copy has the settings and one checkpoint of a run, or the weights of a bundle. It
    lies beside what `open_workdir` makes. Processes of one machine share it; a later
    call, for another checkpoint, makes it anew.

    Args:
      path: of a workdir or a bundle.
      step: the checkpoint to copy from a URL: None means the newest, "best" that of the
        lowest held-out loss.

    Raises:
      UserError: no package opens the URL, or there is no such checkpoint.
    """
    path = os.fspath(path)
    if "://" not in path:
        return Path(path)
    root = open_folder(path.rstrip("/"))
    names = root.names()
    if "config.json" not in names:
        raise UserError(
            f"{path} has no config.json; give the workdir of a training run or a bundle"
        )
    copy = _local_root(root.path) / "copy"
    copy.mkdir(parents=True, exist_ok=True)
    with (copy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        (copy / _WEIGHTS).unlink(missing_ok=True)
        for name in {"config.json", _WEIGHTS} & names:
            with root.opened(name) as file:
                shutil.copyfile(file, copy / name)
        if _WEIGHTS not in names:
            checkpoints = CheckpointParts(f"{root.path}/{_CHECKPOINTS}", 0, 1)
            chosen = choose_step(checkpoints.losses(), step, path)
            _copy_checkpoint(checkpoints, chosen, copy)
    return copy


def _copy_checkpoint(checkpoints: CheckpointParts, step: int, copy: Path) -> None:
    """Makes `step` the one checkpoint in a copy, if it is not that already."""
    wanted = json.dumps([step, checkpoints.marker(step)])
    copied = copy / "copied.json"
    if not copied.exists() or copied.read_text() != wanted:
        copied.unlink(missing_ok=True)
        shutil.rmtree(copy / _CHECKPOINTS, ignore_errors=True)
        checkpoints.fetch(step, copy / _CHECKPOINTS / str(step))
        copied.write_text(wanted)


def _local_root(url: str) -> Path:
    return cache_dir() / "workdirs" / hashlib.sha256(url.encode()).hexdigest()[:16]
