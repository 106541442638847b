"""Metrics as JSON lines, and wherever dashboards read them; process 0 writes.

TensorBoard files lie beside the JSON lines; Weights & Biases gets the same values where
a project is named.
"""

import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from imagen_jax.optional import import_optional


class MetricsWriter:
    """Appends to `workdir/metrics.jsonl` and to TensorBoard files in `workdir/logs`.

    On resume, lines of steps that will be taken again are dropped first, and so is a
    line that a kill cut short.
    """

    def __init__(self, workdir: Path, start_step: int, wandb_project: str = ""):
        """Opens the files; on other processes than 0 nothing is ever written.

        Args:
          workdir: of the run.
          start_step: the last step that is not taken again.
          wandb_project: of Weights & Biases; "" means none.

        Raises:
          UserError: a project is named and wandb is not installed, on any process.
        """
        wandb = import_optional("wandb", "log") if wandb_project else None
        self._file = self._wandb_run = None
        if jax.process_index() != 0:
            return
        # Here, because tensorboardX imports torch wherever that is installed.
        from tensorboardX import SummaryWriter

        path = workdir / "metrics.jsonl"
        if path.exists():
            lines = path.read_text().splitlines()
            kept = [line + "\n" for line in lines if _step_of(line) <= start_step]
            partial = path.with_suffix(".jsonl.partial")
            partial.write_text("".join(kept))
            partial.replace(path)
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(
            str(workdir / "logs"),
            purge_step=start_step + 1,
            flush_secs=1,  # a workdir in a bucket is uploaded while this goes on
        )
        if wandb:
            self._wandb_run = _start_wandb(wandb, workdir, wandb_project)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line: {"step": step, name: value, ...}; null where not finite."""
        if self._file is None:
            return
        line = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb_run:
            self._wandb_run.log(dict(values), step=step)

    def close(self) -> None:
        """Flushes all and closes it."""
        if self._file is not None:
            self._file.close()
            self._board.close()
        if self._wandb_run:
            self._wandb_run.finish()


def _start_wandb(wandb: Any, workdir: Path, project: str) -> Any:
    """Returns the run of this workdir at Weights & Biases, new or taken up again.

    Its id is kept in `workdir/wandb_run.json`. Wandb takes no step twice: those between
    a checkpoint and a kill stay as they were sent first, which is what a resumed run
    computes again.

    Args:
      wandb: the module.
      workdir: of the run; the settings in its config.json are shown with the run.
      project: where the run is listed.
    """
    kept, config = workdir / "wandb_run.json", workdir / "config.json"
    if not kept.exists():
        partial = kept.with_suffix(".json.partial")
        partial.write_text(json.dumps({"id": secrets.token_hex(4)}) + "\n")
        partial.replace(kept)
    return wandb.init(
        project=project,
        id=json.loads(kept.read_text())["id"],
        resume="allow",
        dir=str(workdir),
        config=json.loads(config.read_text()) if config.exists() else {},
    )


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf
