"""A sweep as curves: alignment against distance, one point a guidance weight.

The paper shows every ablation so (arXiv:2205.11487, section 3 and appendix D): CLIP
score to the right, FID upwards, so that a better model's curve lies lower and further
right. Figure A.8 has a curve for each kind of thresholding.

The last axis of a sweep runs along a curve; each combination of the others is a curve.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep import DISTANCES, ERROR, Cell, figures, gain
from imagen_jax.optional import import_optional

ALIGNMENT = ("clip_score", "object_accuracy", "ground_accuracy")  # the first there


class Curve(NamedTuple):
    """The cells that differ along the sweep's last axis only."""

    name: str
    cells: tuple[Cell, ...]


def pareto_front(cells: Sequence[Cell], names: Sequence[str]) -> list[int]:
    """Returns the cells that no other one beats in all of these figures.

    A cell is beaten by one that is at least as good in every figure and better in one.

    Args:
      cells: of a sweep.
      names: of the figures.
    """
    points = [tuple(gain(name, c.scores[name]) for name in names) for c in cells]

    def beaten(point: tuple[float, ...]) -> bool:
        return any(
            other != point and all(a >= b for a, b in zip(other, point, strict=True))
            for other in points
        )

    return [i for i, point in enumerate(points) if not beaten(point)]


def choose_figures(
    cell: Cell, x: str | None = None, y: str | None = None
) -> tuple[str, str]:
    """Returns the names of the figures for a plot's two axes.

    Args:
      cell: any of the sweep.
      x: an alignment's name; None takes the first of `ALIGNMENT` that is there.
      y: a distance's name; None takes the first.

    Raises:
      UserError: an unknown name, or nothing that measures one of the two.
    """
    names = figures(cell)
    found_x = [name for name in ALIGNMENT if name in names]
    found_y = [name for name in names if name.startswith(DISTANCES)]
    for flag, name, found, advice in (
        ("--x", x, found_x, "draw prompts of the quickstart by --held_out_of"),
        ("--y", y, found_y, "give --features"),
    ):
        if not found:
            raise UserError(
                f"no figure of the sweep can stand on the axis {flag}; {advice}"
            )
        if name is not None and name not in found:
            raise UserError(
                f"{flag}={name} is not among the figures {', '.join(found)}; name one "
                "of these"
            )
    return x or found_x[0], y or found_y[0]


def make_curves(cells: Sequence[Cell]) -> list[Curve]:
    """Returns the curves, in the order of their first cells."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        *others, _ = cell.settings.items()
        name = ", ".join(f"{key} {value}" for key, value in others)
        groups.setdefault(name, []).append(cell)
    return [Curve(name, tuple(group)) for name, group in groups.items()]


def format_comparison(curves: Sequence[Curve], names: Sequence[str]) -> str:
    """Returns tables, one a figure: a row for each value along, a column a curve.

    Figures that have a standard error show it.
    """
    axis = list(curves[0].cells[0].settings)[-1]
    heads = [curve.name or "all" for curve in curves]
    parts = []
    for name in names:
        lines = [f"| {axis}: {name} | " + " | ".join(heads) + " |"]
        lines.append("|---" * (len(curves) + 1) + "|")
        for along in zip(*(curve.cells for curve in curves), strict=True):
            values = " | ".join(_in_words(cell, name) for cell in along)
            lines.append(f"| {along[0].settings[axis]} | {values} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_csv(cells: Sequence[Cell], front: Sequence[int]) -> str:
    """Returns a line per cell: settings, figures, whether it is on the Pareto front."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    settings, scores = cells[0].settings, cells[0].scores
    writer.writerow([*settings, *scores, "on_pareto_front", "cpu_seconds"])
    for i, cell in enumerate(cells):
        figures = [cell.scores[name] for name in scores]
        own = [cell.settings[name] for name in settings]
        writer.writerow([*own, *figures, int(i in front), cell.cpu_seconds])
    return file.getvalue()


def plot_curves(
    path: Path,
    curves: Sequence[Curve],
    front: Sequence[Cell],
    figures: tuple[str, str],
    labels: Mapping[str, str],
) -> None:
    """Writes a PNG: a curve each, its points named by their value, the front ringed.

    Args:
      path: of the PNG; its folder is made if missing.
      curves: from `make_curves`.
      front: cells on the Pareto front.
      figures: names of x and y.
      labels: what to write instead of a figure's name.

    Raises:
      UserError: matplotlib is missing.
    """
    figure_module = import_optional("matplotlib.figure", "eval")
    x, y = figures
    figure = figure_module.Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        xs, ys = ([c.scores[name] for c in curve.cells] for name in figures)
        axes.plot(xs, ys, marker="o", markersize=4, label=curve.name or None)
        for cell, *point in zip(curve.cells, xs, ys, strict=True):
            axes.annotate(
                _last(cell), point, (3, 3), textcoords="offset points", size=7
            )
    ringed = [[cell.scores[name] for cell in front] for name in figures]
    axes.scatter(*ringed, s=90, facecolors="none", edgecolors="k", label="Pareto front")
    axes.set(xlabel=labels.get(x, x), ylabel=labels.get(y, y))
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _in_words(cell: Cell, name: str) -> str:
    error = cell.scores.get(name + ERROR)
    return f"{cell.scores[name]:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _last(cell: Cell) -> Any:
    return list(cell.settings.values())[-1]
