"""Checkpoints of a run whose workdir is in a bucket.

Each process writes its part to its own disk (`checkpoint.PartWriter`), and a thread
uploads it while training goes on. Process 0 then uploads the small files, so that they
are never behind the checkpoint, completes it, and deletes those that are no longer
kept. On resume every process downloads the whole checkpoint, so its disk needs room
for one.
"""

import concurrent.futures
import math
import secrets
import shutil
from pathlib import Path
from typing import Any

import jax

from imagen_jax.checkpoint import FOLDER, Checkpoints, PartWriter, restore_parts
from imagen_jax.parallel.distributed import same_on_all
from imagen_jax.retention import kept_steps
from imagen_jax.workdir import AnyWorkdir, BucketWorkdir


class BucketCheckpoints:
    """The methods are those of `Checkpoints`; an upload's error comes at the next."""

    def __init__(
        self,
        workdir: BucketWorkdir,
        newest: int = 3,
        every: int = 0,
        best: bool = False,
    ):
        """Looks what is there.

        Args:
          workdir: of the run.
          newest: see `retention.kept_steps`, as `every` and `best`.
          every: a period in steps; 0 means none.
          best: whether the one of the lowest held-out loss is kept.

        Raises:
          UserError: the bucket cannot be read.
        """
        self._workdir = workdir
        self._retention = (newest, every, best)
        self._commits = jax.process_index() == 0
        self._losses = workdir.checkpoints.losses() if self._commits else {}
        # The hosts must take the same step, whatever each would see.
        self._latest = same_on_all(max(self._losses, default=-1))
        self._start_id = f"{same_on_all(secrets.randbits(31)):08x}"
        self._writer = PartWriter()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "upload")
        self._upload: concurrent.futures.Future | None = None

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._latest if self._latest >= 0 else None

    def save(self, step: int, state: Any, heldout_loss: float | None = None) -> None:
        """Starts writing `state`; it is copied off the devices before this returns.

        Waits first until the checkpoint before is complete.

        Args:
          step: of the state; if its checkpoint is there already, nothing is written.
          state: a pytree of arrays.
          heldout_loss: at this step; None, or not finite, cannot be the best.

        Raises:
          UserError: the checkpoint before could not be uploaded.
        """
        if self._latest == step:
            return
        self.wait()
        if heldout_loss is not None and not math.isfinite(heldout_loss):
            heldout_loss = None
        folder = self._workdir.local / FOLDER / str(step)
        self._writer.start(folder, state)
        self._upload = self._thread.submit(self._finish, step, folder, heldout_loss)
        self._latest = step

    def restore(self, abstract_state: Any) -> Any:
        """Returns the newest state as `abstract_state` (with shardings) lays it out.

        Raises:
          UserError: it is of another model, or cannot be read.
        """
        folder = self._workdir.local / FOLDER / str(self._latest)
        self._workdir.checkpoints.fetch(self._latest, folder)
        name = f"{self._workdir.checkpoints.path}/{self._latest}"
        state = restore_parts(folder, abstract_state, name)
        shutil.rmtree(folder)
        return state

    def wait(self) -> None:
        """Returns when all that was saved is in the bucket.

        Raises:
          UserError: it could not be uploaded.
        """
        if self._upload:
            upload, self._upload = self._upload, None
            upload.result()

    def close(self) -> None:
        """Waits, then ends the threads."""
        try:
            self.wait()
        finally:
            self._writer.close()
            self._thread.shutdown()

    def _finish(self, step: int, folder: Path, heldout_loss: float | None) -> None:
        self._writer.wait()
        checkpoints = self._workdir.checkpoints
        checkpoints.put(step, self._start_id, folder)
        if not self._commits:
            return
        self._workdir.sync()
        checkpoints.commit(step, self._start_id, heldout_loss)
        self._losses[step] = heldout_loss
        for old in self._losses.keys() - kept_steps(self._losses, *self._retention):
            checkpoints.delete(old)
            del self._losses[old]


AnyCheckpoints = Checkpoints | BucketCheckpoints


def open_checkpoints(
    workdir: AnyWorkdir, newest: int = 3, every: int = 0, best: bool = False
) -> AnyCheckpoints:
    """Returns the checkpoints of a workdir; the arguments are those of the classes."""
    if isinstance(workdir, BucketWorkdir):
        return BucketCheckpoints(workdir, newest, every, best)
    return Checkpoints(workdir.local, newest, every, best)
