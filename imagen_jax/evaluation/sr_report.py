"""What a super-resolution stage adds, as a report: of any stage, on any pictures.

The report is a dict that is JSON as it stands:

  n: distinct pictures measured; one that occurs twice counts once.
  gain_db, consistency_db, low_res_swap_db: means over them of
    `imagen_jax.evaluation.super_resolution.sr_metrics`; None where one picture has no
    other to be compared with.
  intervals: the 95 % interval of each, {"low", "high"}; none for one picture.
"""

from collections.abc import Mapping
from typing import Any

from imagen_jax.evaluation.intervals import mean_interval
from imagen_jax.evaluation.samples import SRProbe
from imagen_jax.evaluation.super_resolution import sr_metrics

# Below it a stage draws other pictures than it is given (see the quickstart's targets).
MIN_CONSISTENCY_DB = 25.0


def make_sr_report(probe: SRProbe) -> dict[str, Any]:
    """Returns the report of pictures that a stage enlarged; see the module."""
    distinct = {picture.tobytes(): i for i, picture in enumerate(probe.truth)}
    rows = sorted(distinct.values())
    truth, low_res, output = (array[rows] for array in probe)
    metrics = sr_metrics(output, truth, low_res)
    figures = {
        "gain_db": metrics.gain_db,
        "consistency_db": metrics.consistency_db,
        "low_res_swap_db": metrics.swap_db,
    }
    report: dict[str, Any] = {"n": len(rows), "intervals": {}}
    for name, values in figures.items():
        report[name] = None if values is None else round(float(values.mean()), 4)
        if values is not None and len(values) > 1:
            ends = mean_interval(values)._asdict()
            report["intervals"][name] = {end: round(at, 4) for end, at in ends.items()}
    return report


def describe_sr(report: Mapping[str, Any]) -> list[str]:
    """Returns the report in words: its figures, then what to think of them."""
    swap = report["low_res_swap_db"]
    lines = [
        f"On {report['n']} true low-res pictures: {_figure(report, 'gain_db')} over "
        f"bicubic; consistency with the low-res picture "
        f"{_figure(report, 'consistency_db')}; "
        + (
            "no other picture to compare with."
            if swap is None
            else f"{swap:.1f} dB nearer to its own low-res picture than to others."
        )
    ]
    low = report["intervals"].get("gain_db", {"low": report["gain_db"]})["low"]
    if report["gain_db"] <= 0:
        lines.append("It is not better than bicubic enlarging yet: train it longer.")
    elif low <= 0:
        lines.append("The interval holds 0: too few pictures to say that it is better.")
    if report["consistency_db"] < MIN_CONSISTENCY_DB:
        lines.append(
            f"Below {MIN_CONSISTENCY_DB:g} dB it changes what it was given, colours "
            "for example: train it longer."
        )
    return lines


def _figure(report: Mapping[str, Any], name: str) -> str:
    ends = report["intervals"].get(name)
    interval = f" ({ends['low']:.2f} to {ends['high']:.2f})" if ends else ""
    return f"{report[name]:.2f} dB{interval}"
