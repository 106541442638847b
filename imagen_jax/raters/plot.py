"""The figures of a report as bars with their 95 % intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagen_jax.optional import import_optional
from imagen_jax.raters.tables import Row

COLORS = ("#35618f", "#c9ccd1", "#c0762c")  # apart in grey and for the colour-blind
INK = "#2b2f36"


def plot_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes a PNG: a panel for each measure, a group of bars for each set.

    Args:
      rows: of a report; those without an estimate have no bar.
      path: of the PNG.
    """
    figure_module = import_optional("matplotlib.figure", "raters")
    measures = list(dict.fromkeys(row.measure for row in rows))
    sets = list(dict.fromkeys(row.set for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    figure = figure_module.Figure(
        figsize=(1.5 + 4.5 * len(measures), 1.4 + 0.55 * len(sets) * len(systems) / 2),
        layout="constrained",
    )
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for panel, measure in zip(panels, measures, strict=True):
        for k, system in enumerate(systems):
            _draw_bars(
                panel,
                [row for row in rows if (row.measure, row.system) == (measure, system)],
                sets,
                (k - (len(systems) - 1) / 2) * 0.8 / len(systems),
                0.74 / len(systems),
                COLORS[k % len(COLORS)],
                system,
            )
        if measure == "photorealism":
            panel.axvline(50, color=INK, linestyle=":", linewidth=1)
        panel.set_title(measure, fontsize=11, color=INK)
        panel.set_xlim(0, 100)
        panel.set_xlabel("points of 100" if "indifferent" not in systems else "%")
        panel.set_yticks(range(len(sets)), sets)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color="#e6e8eb")
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(systems), frameon=False
    )
    figure.savefig(path, dpi=150)


def _draw_bars(
    panel,
    rows: Sequence[Row],
    sets: list[str],
    offset: float,
    height: float,
    color: str,
    label: str,
) -> None:
    """Draws one system's bars; a bar of length 0 keeps the legend whole."""
    there = [row for row in rows if row.estimate is not None]
    places = [sets.index(row.set) + offset for row in there]
    ends = np.array([row.estimate[:3] for row in there if row.estimate]).reshape(-1, 3)
    mean, low, high = ends.T
    panel.barh(places, mean, height=height, color=color, label=label)
    panel.errorbar(
        mean,
        places,
        xerr=[np.maximum(mean - low, 0), np.maximum(high - mean, 0)],
        fmt="none",
        ecolor=INK,
        elinewidth=1,
        capsize=2,
    )
