"""Many pictures as files: written as they come, and gone on with after a kill.

    DIR/job.json         what is drawn, with which model and settings
    DIR/STAGE/00000.png  the pictures, in the order of the prompts
    DIR/manifest.jsonl   {"file", "prompt", "negative", "seed", "held_out", "stage"}, a
                         line per picture

A picture is drawn if its file is there, and a file gets its name when it is complete.
The manifest is written when all are there, so a folder that has one is complete.

Batch k is always the same pictures, so a killed and resumed run gives the same files as
one that went through. Of several hosts, host i of n draws the batches i, i + n, ...; on
a disk that they share, the last one to finish writes the manifest.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.errors import UserError
from imagen_jax.prompts import Picture
from imagen_jax.sampling.png_text import check_folder, whole_file, write_png
from imagen_jax.sampling.recipe import Recipe

JOB, MANIFEST = "job.json", "manifest.jsonl"


class Drawn(NamedTuple):
    """A picture as one stage drew it."""

    image: UInt8[np.ndarray, "h w 3"]
    recipe: Recipe | None = None


class Gallery:
    """A folder of pictures that is being filled.

    Attributes:
      folder: where.
      pictures: what is drawn, in the order of the files.
      stages: names of those whose pictures are kept.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Sequence[Picture],
        stages: Sequence[str],
        settings: Mapping[str, Any],
        *,
        held_out: bool = False,
    ):
        """Opens the folder, made if missing, and notes what is drawn there.

        Args:
          folder: empty, or one that the same job was filling.
          pictures: what is drawn, at least one.
          stages: names of the stages, from the base up.
          settings: what else the pictures depend on; JSON.
          held_out: whether the prompts were kept out of training.

        Raises:
          UserError: the folder holds pictures of another job.
        """
        self.folder = folder
        self.pictures = tuple(pictures)
        self.stages = tuple(stages)
        self._held_out = held_out
        listed = json.dumps(self.pictures).encode()
        self._job = {
            "pictures": len(self.pictures),
            "pictures_sha256": hashlib.sha256(listed).hexdigest(),
            "stages": list(self.stages),
            "held_out": held_out,
            **json.loads(json.dumps(settings)),
        }
        self._check_folder()
        _write(folder / JOB, json.dumps(self._job, indent=2) + "\n")

    def file(self, stage: str, index: int) -> Path:
        """Returns where a stage's picture is, or will be."""
        return self.folder / stage / f"{index:05d}.png"

    def missing(self, batch_size: int, host: tuple[int, int] = (0, 1)) -> list[range]:
        """Returns a host's batches of which some picture is not there yet.

        Args:
          batch_size: pictures in a batch.
          host: (index, count) of this machine among those that fill the folder.
        """
        index, count = host
        total = len(self.pictures)
        starts = range(index * batch_size, total, count * batch_size)
        batches = [range(start, min(start + batch_size, total)) for start in starts]
        return [rows for rows in batches if not all(map(self._is_there, rows))]

    def fill(
        self,
        draw: Callable[[Sequence[Picture]], Mapping[str, Sequence[Drawn]]],
        batch_size: int,
        *,
        host: tuple[int, int] = (0, 1),
    ) -> bool:
        """Draws and writes what is missing; returns whether the folder is complete.

        Args:
          draw: a batch of pictures -> each stage's, by its name.
          batch_size: pictures in a batch.
          host: (index, count) of this machine among those that fill the folder.
        """
        if host == (0, 1):  # no other host is writing, so a killed run has left these
            for partial in self.folder.rglob(".*.partial"):
                partial.unlink()
        for rows in self.missing(batch_size, host):
            drawn = draw([self.pictures[row] for row in rows])
            for stage in self.stages:
                for row, made in zip(rows, drawn[stage], strict=True):
                    write_png(self.file(stage, row), *made)
        if self.missing(batch_size):
            return False
        _write(self.folder / MANIFEST, "".join(self._manifest()))
        return True

    def _is_there(self, index: int) -> bool:
        return all(self.file(stage, index).exists() for stage in self.stages)

    def _manifest(self) -> Iterator[str]:
        for stage in self.stages:
            for index, picture in enumerate(self.pictures):
                entry = {
                    "file": self.file(stage, index).relative_to(self.folder).as_posix(),
                    "prompt": picture.prompt,
                    "negative": picture.negative,
                    "seed": picture.seed,
                    "held_out": self._held_out,
                    "stage": stage,
                }
                yield json.dumps(entry) + "\n"

    def _check_folder(self) -> None:
        path = self.folder / JOB
        advice = "give another --samples, or delete the folder"
        check_folder(self.folder, f"--samples={self.folder}")
        if not path.exists():
            if any(self.folder.glob("*")):
                raise UserError(
                    f"--samples={self.folder} holds files of something else; {advice}"
                )
            return
        try:
            noted = json.loads(path.read_text("utf-8"))
            differing = sorted(
                name
                for name in noted.keys() | self._job.keys()
                if noted.get(name) != self._job.get(name)
            )
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path} cannot be read ({error}); {advice}") from error
        if differing:
            raise UserError(
                f"--samples={self.folder} holds pictures of another job, which differs "
                f"in {', '.join(differing)}; {advice}"
            )


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, "utf-8")
