"""Checkpoints in a bucket: parts of several processes, and a marker that comes last.

    URL/STEP/part-00001-of-00004-ID.tar   one per process: what its devices hold
    URL/STEP/complete.json                by process 0, when all parts are there

A checkpoint without `complete.json` does not exist: nobody reads it, and the next start
of the run deletes it. So a kill at any moment leaves the last complete one. ID is of
the start of the run, so parts of two starts never make one checkpoint.
"""

import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from imagen_jax.data.remote import Folder, open_folder
from imagen_jax.errors import UserError

_COPY_BYTES = 1 << 20
COMMIT_SEC = 1800.0  # how long process 0 waits for the parts of the others
POLL_SEC = 1.0

_MARKER = "complete.json"


class Marker(NamedTuple):
    """What makes a checkpoint complete.

    Attributes:
      parts: names of its files.
      heldout_loss: at its step, or None.
    """

    parts: list[str]
    heldout_loss: float | None


class CheckpointParts:
    """The checkpoints of one run.

    Attributes:
      path: the URL, or a folder.
    """

    def __init__(self, path: str, process: int, num_processes: int):
        """Touches nothing yet.

        Args:
          path: URL; the folder need not exist.
          process: number of this process, from 0.
          num_processes: of the run, as it is now.

        Raises:
          UserError: if no installed package opens such URLs.
        """
        self.path = path
        self._root = open_folder(path)
        self._process, self._num_processes = process, num_processes

    def losses(self) -> dict[int, float | None]:
        """Returns the held-out loss of each complete checkpoint, by step."""
        markers = {step: self.marker(step) for step in self._steps()}
        return {s: m.heldout_loss for s, m in markers.items() if m is not None}

    def marker(self, step: int) -> Marker | None:
        """Returns what completes a checkpoint, None if it is not complete.

        Raises:
          UserError: it is damaged.
        """
        if (data := self._folder(step).read(_MARKER)) is None:
            return None
        try:
            marker = Marker(**json.loads(data))
            if all(name == Path(name).name for name in marker.parts):
                return marker
        except (ValueError, TypeError):
            pass
        raise UserError(
            f"{self.path}/{step}/{_MARKER} is damaged; delete it, and the run goes on "
            "from the checkpoint before"
        )

    def put(self, step: int, start_id: str, folder: Path) -> None:
        """Uploads this process's part of a checkpoint, and deletes it here.

        Args:
          step: of the checkpoint.
          start_id: of the start of the run; the same on all processes.
          folder: with what this process's devices hold.
        """
        name = self._part_name(self._process, start_id)
        archive = folder.with_name(name)
        with tarfile.open(archive, "w") as tar:
            tar.add(folder, arcname=".")
        shutil.rmtree(folder)
        self._folder(step).put(archive, name)

    def commit(self, step: int, start_id: str, heldout_loss: float | None) -> None:
        """Completes a checkpoint, when the parts of all processes are there.

        Raises:
          UserError: some part did not come.
        """
        folder = self._folder(step)
        parts = [self._part_name(i, start_id) for i in range(self._num_processes)]
        deadline = time.monotonic() + COMMIT_SEC
        while missing := sorted({*parts} - folder.names()):
            if time.monotonic() > deadline:
                raise UserError(
                    f"{self.path}/{step}/{missing[0]} was not uploaded in "
                    f"{COMMIT_SEC:.0f} s; look for the error of that process, and run "
                    "again to resume"
                )
            time.sleep(POLL_SEC)
        marker = Marker(parts, heldout_loss)
        folder.write(_MARKER, json.dumps(marker._asdict()).encode())

    def fetch(self, step: int, into: Path) -> None:
        """Lays all parts of a complete checkpoint over one another in a new folder.

        Raises:
          UserError: it is not complete, or a part is damaged.
        """
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        marker = self.marker(step)
        for name in marker.parts if marker else [_MARKER]:
            try:
                with (
                    self._folder(step).opened(name) as file,
                    tarfile.open(file, "r:") as tar,
                ):
                    _unpack(tar, into)
            except (FileNotFoundError, tarfile.TarError) as error:
                raise UserError(
                    f"{self.path}/{step}/{name} is missing or damaged ({error}); "
                    f"delete {_MARKER} beside it, and the run goes on from the "
                    "checkpoint before"
                ) from error

    def delete(self, step: int) -> None:
        """Deletes a checkpoint; from the first moment on it is not complete."""
        folder = self._folder(step)
        folder.delete(_MARKER)
        for name in folder.names():
            folder.delete(name)

    def delete_incomplete(self) -> None:
        """Deletes what killed runs have left."""
        for step in self._steps() - self.losses().keys():
            self.delete(step)

    def _steps(self) -> set[int]:
        return {int(name) for name in self._root.names() if name.isdecimal()}

    def _folder(self, step: int) -> Folder:
        return open_folder(f"{self.path}/{step}")

    def _part_name(self, process: int, start_id: str) -> str:
        return f"part-{process:05d}-of-{self._num_processes:05d}-{start_id}.tar"


def _unpack(tar: tarfile.TarFile, into: Path) -> None:
    """Writes the files of a part below a folder; refuses what lies elsewhere.

    `TarFile.extractall` does so from Python 3.11.4 on; Debian 12 has 3.11.2.

    Raises:
      tarfile.TarError: a link, a device, a path that leaves the folder, or damage.
    """
    root = into.resolve()
    for member in tar:
        target = (root / member.name).resolve()
        inside = target.is_relative_to(root)
        if not inside or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is no plain file of a checkpoint")
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # of a plain file
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
