"""What a sweep with curves leaves: a table as CSV, a plot, and both in words.

sweep.csv    a line per cell
curve.png    alignment against distance, see `sweep_curve`
sweep.md     each figure as a table, curves side by side, and the Pareto front
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep import Cell, figures, gain, label
from imagen_jax.evaluation.sweep_curve import (
    format_comparison,
    make_curves,
    pareto_front,
    plot_curves,
    to_csv,
)
from imagen_jax.sampling.png_text import whole_file


def write_curves(
    out: Path,
    cells: Sequence[Cell],
    axes: tuple[str, str],
    labels: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """Writes the three files; returns the text of the last.

    Args:
      out: folder, made if missing.
      cells: of the whole sweep.
      axes: names of the figures on x and y, see `sweep_curve.choose_figures`.
      labels: what to print instead of a figure's name.
      notes: sentences on what the figures are.

    Raises:
      UserError: the folder cannot be written, or matplotlib is missing.
    """
    curves, front = make_curves(cells), pareto_front(cells, axes)
    names = list(figures(cells[0]))
    lines = [
        f"{labels.get(axes[0], axes[0])} against {labels.get(axes[1], axes[1])}.",
        *notes,
        "",
        format_comparison(curves, names),
        f"Pareto front of {axes[0]} and {axes[1]}:",
        "",
        *(f"- {label(cells[i])}" for i in front),
        "",
        f"The best {axes[1]} of each curve:",
        "",
    ]
    for curve in curves:
        best = max(curve.cells, key=lambda cell: gain(axes[1], cell.scores[axes[1]]))
        lines.append(f"- {label(best)}")
    text = "\n".join(lines) + "\n"
    try:
        for name, content in (("sweep.csv", to_csv(cells, front)), ("sweep.md", text)):
            with whole_file(out / name) as partial:
                partial.write_text(content, "utf-8")
        ringed = [cells[i] for i in front]
        plot_curves(out / "curve.png", curves, ringed, axes, labels)
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); choose another --out"
        ) from error
    return text
