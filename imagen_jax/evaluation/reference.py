"""The band of earlier runs that a quickstart report is compared with.

A reference is made from the reports of a few seeds and committed:

    {figure: {"min": low, "max": high, "runs": [one value per report]}, ...}

Few seeds span less than the next seed may need, so each band is wider than they are.
A figure with a 95 % interval reaches from the lowest to the highest end of the runs'
intervals. Any other reaches from lowest to highest run and, on both sides, as far
again, but at least by the slack below. Time is left out: it tells of the machine.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError

FIGURES = (
    "ground_accuracy",
    "object_accuracy",
    "ground_accuracy_64",
    "object_accuracy_64",
    "object_accuracy_shuffled",
    "control_object_accuracy",
    "sr_gain_db",
    "sr_consistency_db",
    "sr_low_res_swap_db",
)
CURVES = ("loss", "object_accuracy", "ground_accuracy")
LOSS_SLACK = 0.05  # of the runs' mean loss
# A preview scores few pictures: of 32, a share of 0.5 has a 95 % interval of +-0.17.
PREVIEW_SLACK = 0.17


class Comparison(NamedTuple):
    """A figure beside its band; `place` is "inside", "below" or "above"."""

    figure: str
    value: float
    low: float
    high: float
    place: str


def collect_figures(report: dict[str, Any]) -> dict[str, float]:
    """Returns what a report can be compared by: its figures and its curve's points.

    Figures that are null are left out. A point of the curve is named by its place,
    e.g. "loss at point 3" of 10.
    """
    found = {name: report.get(name) for name in FIGURES}
    for number, point in enumerate(report.get("training_curve") or [], start=1):
        for curve in CURVES:
            found[f"{curve} at point {number}"] = point[curve]
    return {name: value for name, value in found.items() if value is not None}


def make_reference(reports: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the reference of some runs, with "n" (pictures a run) among its figures.

    Args:
      reports: at least 2, of runs that differ in their seed alone.

    Raises:
      UserError: for too few reports, or if they scored different numbers of pictures.
    """
    if len(reports) < 2:
        raise UserError(f"a reference needs at least 2 reports, not {len(reports)}")
    sizes = [report["n"] for report in reports]
    if len(set(sizes)) > 1:
        raise UserError(
            f"the reports scored n = {', '.join(map(str, sizes))} pictures; "
            "a reference needs runs of one size"
        )
    bands = {"n": {"min": sizes[0], "max": sizes[0], "runs": sizes}}
    collected = [collect_figures(report) for report in reports]
    for name in collected[0]:
        if not all(name in figures for figures in collected):
            continue
        runs = [figures[name] for figures in collected]
        intervals = [report["intervals"].get(name) for report in reports]
        if all(intervals):
            low = min(interval["low"] for interval in intervals)
            high = max(interval["high"] for interval in intervals)
        else:
            slack = max(max(runs) - min(runs), _least_slack(name, runs))
            low, high = min(runs) - slack, max(runs) + slack
        bands[name] = {"min": round(low, 4), "max": round(high, 4), "runs": runs}
    return bands


def _least_slack(name: str, runs: list[float]) -> float:
    if name.startswith("loss"):
        return LOSS_SLACK * abs(sum(runs)) / len(runs)
    return PREVIEW_SLACK if " at point " in name else 0.0


def compare(
    report: dict[str, Any], reference: dict[str, dict[str, Any]]
) -> list[Comparison]:
    """Returns each figure that report and reference share, beside its band."""
    comparisons = []
    for name, value in collect_figures(report).items():
        if name not in reference:
            continue
        low, high = reference[name]["min"], reference[name]["max"]
        place = "below" if value < low else "above" if value > high else "inside"
        comparisons.append(Comparison(name, value, low, high, place))
    return comparisons


def describe(
    report: dict[str, Any], reference: dict[str, dict[str, Any]] | None
) -> str:
    """Returns in words whether the report lies inside the reference's band."""
    if reference is None:
        return "There is no reference to compare this run with."
    num_runs, size = len(reference["n"]["runs"]), reference["n"]["min"]
    if report["n"] != size:
        return (
            f"Not compared with the reference: it scored {size} pictures, this run "
            f"{report['n']}."
        )
    comparisons = compare(report, reference)
    outside = [c for c in comparisons if c.place != "inside"]
    if not outside:
        return (
            f"This run lies inside the band of the reference ({num_runs} runs) in all "
            f"{len(comparisons)} figures."
        )
    details = ", ".join(
        f"{c.figure} {c.value:.4g} is {c.place} {c.low:.4g} to {c.high:.4g}"
        for c in outside
    )
    return (
        f"This run lies outside the band of the reference ({num_runs} runs) in "
        f"{len(outside)} of {len(comparisons)} figures: {details}."
    )


def read_report(path: Path) -> dict[str, Any]:
    """Returns a report.json.

    Raises:
      UserError: if it cannot be read or is no report.
    """
    report = _read_json(path)
    if not {"n", "intervals", *FIGURES} <= report.keys():
        raise UserError(
            f"{path} is no quickstart report; make one with "
            "python -m imagen_jax.evaluate quickstart --out=FILE"
        )
    return report


def read_reference(path: Path) -> dict[str, dict[str, Any]]:
    """Returns a reference as `make_reference` made it.

    Raises:
      UserError: if it cannot be read or is no reference.
    """
    reference = _read_json(path)
    bands = reference.values()
    keys = {"min", "max", "runs"}
    if "n" not in reference or not all(
        isinstance(band, dict) and keys <= band.keys() for band in bands
    ):
        raise UserError(
            f"{path} is no reference; make one with python -m imagen_jax.evaluate "
            "quickstart-reference --reports=A,B,C --out=FILE"
        )
    return reference


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path} ({cause}); it must be JSON") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content
