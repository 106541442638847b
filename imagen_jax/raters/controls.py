"""Control trials: their right answer is known, and tells careful raters from others.

`controls.csv` in the study's folder, with paths of pictures in that folder:

    quality:    right,wrong               two pictures, the first is the real one
    alignment:  picture,prompt,accepted   accepted answers, e.g. yes|somewhat

The paper interleaves controls and keeps raters with at least 80 % of them right
(arXiv:2205.11487, section 3); which controls it used is not said. `make_controls`
proposes some: a picture against a coarse mosaic of itself; a picture with its own
caption, or with another's.
"""

import csv
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import decode, encode_png
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.raters.settings import QUESTIONS

CONTROLS_FILE = "controls.csv"
MOSAIC_CELLS = 12
"""Cells along each side of a mosaic: plainly no photograph."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file and what was in it.

    Attributes:
      file: its path, in the study's folder or absolute.
      sha256: of its bytes, in hexadecimal.
    """

    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Control:
    """A trial whose right answer is known.

    Attributes:
      name: its row in controls.csv, counted from 1.
      prompt: the caption shown (alignment), else "".
      pictures: the right and the wrong one (quality), or the one shown (alignment).
      accepted: answers that count as right (alignment), else empty.
    """

    name: str
    prompt: str
    pictures: tuple[Picture, ...]
    accepted: tuple[str, ...]


def read_controls(
    path: Path, rows: Sequence[dict[str, str]], read_picture: Callable[[str], Picture]
) -> tuple[Control, ...]:
    """Returns the controls of the rows of controls.csv.

    Args:
      path: of the file, for messages.
      rows: with the columns of one kind of study.
      read_picture: gives the picture at a path.

    Raises:
      UserError: for an accepted answer that there is not.
    """
    controls, answers = [], QUESTIONS["alignment"]["alignment"]
    for i, row in enumerate(rows):
        name = str(i + 1)
        if "right" in row:
            pictures = (read_picture(row["right"]), read_picture(row["wrong"]))
            controls.append(Control(name, "", pictures, ()))
            continue
        accepted = tuple(part.strip() for part in row["accepted"].split("|"))
        if not set(accepted) < set(answers):
            raise UserError(
                f"{path}, row {name}: accepted is {row['accepted']!r}; it must be one "
                f"or two of {', '.join(answers)}, with | between them"
            )
        picture = read_picture(row["picture"])
        controls.append(Control(name, row["prompt"], (picture,), accepted))
    return tuple(controls)


def make_controls(
    folder: Path, kind: str, pairs: Sequence[tuple[str, str]], num: int, seed: int
) -> Path:
    """Writes `num` controls from pictures of the reference; returns controls.csv.

    Args:
      folder: of the study.
      kind: "quality" or "alignment".
      pairs: (picture file, prompt); the first `num` are used, and for alignment their
        captions are exchanged in half of the rows.
      num: at least 2.
      seed: of the order.

    Raises:
      UserError: if there are too few pairs, a picture cannot be read, controls.csv is
        there already, or the disk is full.
    """
    path = folder / CONTROLS_FILE
    if len(pairs) < num or num < 2:
        raise UserError(
            f"{num} controls were asked for and there are {len(pairs)} pairs; ask for "
            "2 at least, and at most one per pair"
        )
    if path.exists():
        raise UserError(f"{path} is there already; move it away to make another")
    try:
        if kind == "quality":
            rows = [_mosaic_row(folder, file) for file, _ in pairs[:num]]
        else:
            rows = _caption_rows(pairs[:num])
        np.random.default_rng([seed, 1]).shuffle(rows)
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot write controls to {folder} ({error.strerror})"
        ) from error
    return path


def mosaic(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture as `MOSAIC_CELLS` x `MOSAIC_CELLS` cells of one colour."""
    height, width, _ = picture.shape
    rows = np.arange(height) * MOSAIC_CELLS // height
    columns = np.arange(width) * MOSAIC_CELLS // width
    result = np.empty_like(picture)
    for row in np.unique(rows):
        for column in np.unique(columns):
            cell = np.ix_(rows == row, columns == column)
            result[cell] = picture[cell].mean((0, 1)).round()
    return result


def _mosaic_row(folder: Path, file: str) -> dict[str, str]:
    """Writes a picture's mosaic; returns the row of controls.csv."""
    try:
        picture = decode((folder / file).read_bytes())
    except BadRecordError as error:
        raise UserError(
            f"the picture {folder / file} cannot be read ({error}); replace it"
        ) from error
    wrong = Path("controls") / f"{Path(file).stem}.png"
    (folder / wrong).parent.mkdir(exist_ok=True)
    (folder / wrong).write_bytes(encode_png(mosaic(picture)))
    return {"right": file, "wrong": wrong.as_posix()}


def _caption_rows(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Returns rows of which the second half has the caption of another picture."""
    rows = []
    for i, (file, prompt) in enumerate(pairs):
        accepted = "yes|somewhat"
        if i >= len(pairs) // 2:
            later = [other for _, other in (*pairs[i:], *pairs[:i]) if other != prompt]
            if not later:
                raise UserError(
                    f"all captions are {prompt!r}; a control needs one that does not "
                    "describe its picture"
                )
            prompt, accepted = later[0], "no"
        rows.append({"picture": file, "prompt": prompt, "accepted": accepted})
    return rows
