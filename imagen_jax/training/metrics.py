"""Metrics as JSON lines, with TensorBoard files beside them; process 0 writes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax


class MetricsWriter:
    """Appends to `workdir/metrics.jsonl` and to TensorBoard files in `workdir/logs`.

    On resume, lines of steps that will be taken again are dropped first, and so is a
    line that a kill cut short.
    """

    def __init__(self, workdir: Path, start_step: int):
        """Opens the files; on other processes than 0 nothing is ever written.

        Args:
          workdir: of the run.
          start_step: the last step that is not taken again.
        """
        self._file = None
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
        self._board = SummaryWriter(str(workdir / "logs"), purge_step=start_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line: {"step": step, name: value, ...}; null where not finite."""
        if self._file is None:
            return
        line = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes both files."""
        if self._file is not None:
            self._file.close()
            self._board.close()


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf
