"""Curves of a sweep: the Pareto front, the tables, which figures stand on the axes."""

import csv

import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep import Cell
from imagen_jax.evaluation.sweep_curve import (
    choose_figures,
    format_comparison,
    make_curves,
    pareto_front,
    plot_curves,
    to_csv,
)

SHOWN = np.zeros((1, 4, 4, 3), np.uint8)
POINTS = {  # (thresholding, guidance) -> (accuracy, distance)
    ("none", 1): (0.2, 50.0),
    ("none", 3): (0.6, 40.0),
    ("none", 9): (0.5, 90.0),
    ("dynamic", 1): (0.3, 30.0),
    ("dynamic", 3): (0.6, 35.0),
    ("dynamic", 9): (0.7, 60.0),
}
CELLS = [
    Cell(
        {"threshold": threshold, "guidance": weight},
        {"object_accuracy": x, "fid_like": y, "fid_like_se": 1.25},
        SHOWN,
    )
    for (threshold, weight), (x, y) in POINTS.items()
]
AXES = ("object_accuracy", "fid_like")


def test_no_other_cell_beats_one_on_the_front():
    front = pareto_front(CELLS, AXES)
    # (0.6, 40) is beaten by (0.6, 35), equal in one figure; the rest by two.
    assert [tuple(CELLS[i].settings.values()) for i in front] == [
        ("dynamic", 1),
        ("dynamic", 3),
        ("dynamic", 9),
    ]
    assert pareto_front([CELLS[0], CELLS[0]], AXES) == [0, 1]


def test_the_last_axis_runs_along_a_curve():
    curves = make_curves(CELLS)
    assert [curve.name for curve in curves] == ["threshold none", "threshold dynamic"]
    assert [cell.settings["guidance"] for cell in curves[1].cells] == [1, 3, 9]
    assert make_curves([CELLS[0]._replace(settings={"a": 1})])[0].name == ""
    table = format_comparison(curves, ["fid_like"])
    assert table.splitlines()[0] == (
        "| guidance: fid_like | threshold none | threshold dynamic |"
    )
    assert "| 9 | 90 ± 1.2 | 60 ± 1.2 |" in table


def test_a_line_of_the_csv_per_cell():
    rows = list(csv.DictReader(to_csv(CELLS, [3]).splitlines()))
    assert len(rows) == 6
    assert [row["on_pareto_front"] for row in rows] == ["0", "0", "0", "1", "0", "0"]
    assert float(rows[5]["fid_like"]) == 60.0


def test_a_plot_is_written(tmp_path):
    path = tmp_path / "new" / "curve.png"
    plot_curves(path, make_curves(CELLS), CELLS[3:], AXES, {"fid_like": "FID-like"})
    assert path.read_bytes().startswith(b"\x89PNG")


def test_figures_for_the_axes_are_found():
    assert choose_figures(CELLS[0]) == AXES
    both = CELLS[0]._replace(
        scores=dict.fromkeys(("object_accuracy", "clip_score", "kid_se", "kid"), 1.0)
        | {"fid": 1.0}
    )
    assert choose_figures(both) == ("clip_score", "kid")
    assert choose_figures(both, "object_accuracy", "fid") == ("object_accuracy", "fid")


@pytest.mark.parametrize(
    ("names", "x", "y", "message"),
    [
        (["fid"], None, None, "stand on the axis --x; draw prompts"),
        (["object_accuracy"], None, None, "stand on the axis --y"),
        (["object_accuracy", "fid"], "fid", None, "--x=fid is not among"),
        (["object_accuracy", "fid"], None, "kid", "--y=kid is not among .* fid;"),
    ],
)
def test_figures_that_are_not_there_are_refused(names, x, y, message):
    with pytest.raises(UserError, match=message):
        choose_figures(CELLS[0]._replace(scores=dict.fromkeys(names, 1.0)), x, y)
