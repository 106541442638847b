"""The cells of a sweep on disk, so that a killed sweep goes on.

    DIR/job.json       what all cells share: model, prompts, seeds, how they are scored
    DIR/0f3a....npz    a cell, named by the hash of its settings; written whole

Cells are independent of each other: further values of an axis are further cells.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep import Cell, Settings
from imagen_jax.sampling.png_text import whole_file

JOB = "job.json"


class CellStore:
    """A folder of cells that is being filled."""

    def __init__(self, folder: Path, job: Mapping[str, Any]):
        """Opens the folder, made if missing, and notes what all its cells share.

        Args:
          folder: empty, or one that the same job was filling.
          job: JSON.

        Raises:
          UserError: the folder holds cells of another job.
        """
        self._folder = folder
        job = json.loads(json.dumps(job))
        path = folder / JOB
        advice = "give another --out, or delete the folder"
        if path.exists():
            try:
                noted = json.loads(path.read_text("utf-8"))
                names = noted.keys() | job.keys()
            except (OSError, ValueError, AttributeError) as error:
                raise UserError(f"{path} cannot be read ({error}); {advice}") from error
            differing = sorted(n for n in names if noted.get(n) != job.get(n))
            if differing:
                raise UserError(
                    f"{folder} holds cells of another sweep, which differs in "
                    f"{', '.join(differing)}; {advice}"
                )
        with whole_file(path) as partial:
            partial.write_text(json.dumps(job, indent=1) + "\n", "utf-8")

    def read(self, settings: Settings) -> Cell | None:
        """Returns the cell of these settings, None if it is not there yet.

        Raises:
          UserError: its file is damaged.
        """
        path = self._file(settings)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file) as held:
                scores = json.loads(str(held["scores"]))
                return Cell(settings, scores, held["shown"], float(held["cpu_seconds"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it, and the cell is drawn anew"
            ) from error

    def write(self, cell: Cell) -> None:
        """Writes a cell, whole or not at all."""
        with whole_file(self._file(cell.settings)) as partial, partial.open("wb") as f:
            np.savez(
                f,
                settings=json.dumps(cell.settings),
                scores=json.dumps(cell.scores),
                shown=cell.shown,
                cpu_seconds=cell.cpu_seconds,
            )

    def _file(self, settings: Settings) -> Path:
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return self._folder / f"{digest[:16]}.npz"
