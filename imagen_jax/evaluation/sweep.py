"""A grid of sampler settings: the same prompts and seeds in every cell, scored.

    cells = sweep(model, plan_of, {"aug_level": [0, 0.1], "guidance": [1, 3]}, scorers)

The paper chose `aug_level` and the guidance weight so (section 3.3, appendix E). Cells
that differ in values only (guidance, aug_level, percentile) run one compiled program;
each thresholding is another one, and so is a guidance weight of exactly 1 in all steps,
which needs half the network evaluations (`sampler.Sampler`, guided=False).

A metric is a `Scorer`. Of figures whose names begin with one of `DISTANCES` less is
better, of all others more; "NAME_se" is the standard error of NAME. Nothing else here
knows a metric by name.
"""

import difflib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.errors import UserError
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampler_choice import FIELDS, read_choice
from imagen_jax.sampling.plan import Plan
from imagen_jax.sampling.png_text import whole_file
from imagen_jax.sampling.recipe import versions

MAX_CELLS = 64
SHOWN = 4  # pictures of a cell on the sheet, two by two
DISTANCES = ("fid", "fd_", "kid", "kd_")
ERROR = "_se"
CHANGEABLE = (  # by an axis, as `Pipeline.plan` names them
    *("guidance", "guidance_kind", "steps", "sampler", "aug_level", "threshold"),
    *("negative", "second", "blend"),
    *FIELDS,
)

Settings = dict[str, Any]  # as `Pipeline.plan` takes them
Drawn = Mapping[str, UInt8[np.ndarray, "b _ _ 3"]]  # by the stage's name
Scorer = Callable[[Drawn], dict[str, float]]
"""Pictures of every stage -> figures by name."""


class Cell(NamedTuple):
    """A cell of the grid.

    Attributes:
      settings: what is its own.
      scores: by name, in the order of the scorers.
      shown: the first pictures of the last stage.
      cpu_seconds: that drawing and scoring took, compilation included.
    """

    settings: Settings
    scores: dict[str, float]
    shown: UInt8[np.ndarray, "k h w 3"]
    cpu_seconds: float = 0.0


def read_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Returns the values of each setting from words like "aug_level=0,0.1,0.2".

    A value for each stage stands in parentheses: "guidance=(3,1),(5,1)".

    Raises:
      UserError: a word without a name or value, a name given twice or unknown, or too
        many cells.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        if not (name and separator and values) or name in axes:
            raise UserError(
                f"--sweep got {text!r}; give each setting once with its values, such "
                "as aug_level=0,0.1,0.2"
            )
        if name not in CHANGEABLE:
            near = difflib.get_close_matches(name, CHANGEABLE, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UserError(
                f"unknown axis {name!r}{hint} They are: "
                f"{', '.join(dict.fromkeys(CHANGEABLE))}"
            )
        value = read_choice(values)
        axes[name] = value if isinstance(value, list) else [value]
    count = int(np.prod([len(values) for values in axes.values()]))
    if count > MAX_CELLS:
        raise UserError(
            f"the sweep has {count} cells; give values for at most {MAX_CELLS}"
        )
    return axes


def sweep(
    model: Pipeline,
    plan_of: Callable[..., Plan],
    axes: Mapping[str, Sequence[Any]],
    scorers: Sequence[Scorer],
    report: Callable[[Cell], None] = lambda cell: None,
    recall: Callable[[Settings], Cell | None] = lambda settings: None,
) -> list[Cell]:
    """Returns the cells, the last axis running fastest.

    Args:
      model: the cascade.
      plan_of: (**settings) -> what a cell draws: `model.plan` with prompts and seeds.
      axes: values by setting.
      scorers: figures of a cell.
      report: called with each cell as it is known.
      recall: settings -> the cell if it is known already, see `sweep_store`; it is not
        drawn then, nor reported.

    Raises:
      UserError: a setting or value that `Pipeline.plan` refuses, before any is drawn.
    """
    grid = [dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())]
    plans = [plan_of(**settings) for settings in grid]
    cells = []
    for settings, plan in zip(grid, plans, strict=True):
        if (cell := recall(settings)) is None:
            cell = _fresh_cell(model, plan, settings, scorers)
            report(cell)
        cells.append(cell)
    return cells


def _fresh_cell(
    model: Pipeline, plan: Plan, settings: Settings, scorers: Sequence[Scorer]
) -> Cell:
    started = time.process_time()
    drawn = model.draw(plan)
    scores: dict[str, float] = {}
    for scorer in scorers:
        scores |= scorer(drawn)
    seconds = round(time.process_time() - started, 2)
    return Cell(settings, scores, drawn[model.names[-1]][:SHOWN], seconds)


def gain(name: str, value: float) -> float:
    """Returns a figure so that more is better."""
    return -value if name.startswith(DISTANCES) else value


def figures(cell: Cell) -> dict[str, float]:
    """Returns the scores that are not standard errors of others."""
    return {k: v for k, v in cell.scores.items() if not k.endswith(ERROR)}


def best_cell(cells: Sequence[Cell]) -> int | None:
    """Returns the cell of the best first figure; ties are broken by the next ones.

    None where nothing was scored.
    """
    if not cells or not cells[0].scores:
        return None
    return max(
        range(len(cells)),
        key=lambda i: [gain(*figure) for figure in figures(cells[i]).items()],
    )


def write_sweep(
    path: Path, cells: Sequence[Cell], about: Mapping[str, Any], columns: int, **sheet
) -> None:
    """Writes a labelled contact sheet, and the figures as JSON beside it.

    Args:
      path: of the sheet, PNG; the JSON has its name and ".json".
      cells: from `sweep`.
      about: what all cells share, for the JSON.
      columns: cells in a row.
      **sheet: title and footer; see `grid.write_grid`.
    """
    best = best_cell(cells)
    record = {
        **about,
        "versions": versions(),
        "cells": [
            {"settings": c.settings, "scores": c.scores, "cpu_seconds": c.cpu_seconds}
            for c in cells
        ],
    }
    if best is not None:
        record["best"] = cells[best].settings
        record["rule"] = f"the best {', then '.join(figures(cells[0]))}"
    with whole_file(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")
    texts = {"Software": f"imagen_jax {versions()['imagen_jax']}"}
    texts["imagen_jax_sweep"] = json.dumps(record)
    captions = [
        f"{label(cell)}{' (best)' * (i == best)}" for i, cell in enumerate(cells)
    ]
    images = [_mosaic(cell.shown) for cell in cells]
    write_grid(path, images, captions, columns, texts=texts, **sheet)


def label(cell: Cell) -> str:
    """Returns a cell's settings and figures in words."""
    return "; ".join([*_words(cell.settings), *_words(cell.scores)])


def _words(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{name} {round(value, 3) if isinstance(value, float) else value}"


def _mosaic(pictures: UInt8[np.ndarray, "k h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns four pictures two by two, or the first alone where there are fewer."""
    if len(pictures) < SHOWN:
        return pictures[0]
    top, bottom = (np.concatenate(pictures[i : i + 2], axis=1) for i in (0, 2))
    return np.concatenate([top, bottom])
