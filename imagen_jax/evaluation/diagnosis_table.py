"""A cascade's diagnosis as JSON and as one Markdown table, with its sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from imagen_jax.evaluation.diagnosis import OBJECT, SPECTRUM, Row
from imagen_jax.evaluation.diagnosis_verdict import estimate, losses, verdict

# Heading and direction of each figure, in the order of the columns.
HEADINGS = {
    OBJECT: "object right %",
    "ground_accuracy": "ground right %",
    SPECTRUM: "spectrum dB (less)",
    "consistency_db": "consistency dB",
    "colour_levels": "colour shift (less)",
    "psnr_db": "PSNR dB",
    "gain_db": "over bicubic dB",
}


def diagnosis_record(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the result as JSON: rows with 95 % intervals, losses, the sentences.

    Args:
      rows: from `diagnosis.diagnose`.
      about: what was diagnosed, for the manifest.
    """
    return {
        "job": "diagnose",
        "manifest": dict(about),
        "figures": {name: HEADINGS[name] for name in _names(rows)},
        "rows": [
            {
                "stage": row.stage,
                "checkpoint": row.checkpoint,
                "feed": row.feed,
                "figures": {name: estimate(name, v) for name, v in row.values.items()},
            }
            for row in rows
        ],
        "losses": losses(rows),
        "verdict": verdict(rows),
        "swap": describe_swap(rows),
    }


def describe_swap(rows: Sequence[Row]) -> str:
    """Returns a sentence on the swapped checkpoint, "" where there is none."""
    for loss in losses(rows):
        if loss["own_swapped"]:
            own, other = loss["own"], loss["own_swapped"]
            apart = own["high"] < other["low"] or other["high"] < own["low"]
            word = "less" if other["mean"] < own["mean"] else "more"
            return (
                f"With the swapped checkpoint {loss['stage']} loses "
                f"{other['mean']:.2f} instead of {own['mean']:.2f}: "
                + (f"{word}." if apart else "their intervals overlap.")
            )
    return ""


def format_diagnosis(record: Mapping[str, Any], warnings: Sequence[str]) -> str:
    """Returns the result as Markdown.

    Args:
      record: from `diagnosis_record`.
      warnings: sentences that stand above the table.
    """
    names = list(record["figures"])
    head = ["stage", "checkpoint", "fed with", *record["figures"].values()]
    lines = ["# Where the cascade loses quality", "", record["verdict"], ""]
    lines += [record["swap"], ""] if record["swap"] else []
    lines += [f"Warning: {warning}\n" for warning in warnings]
    lines += [_line(head), _line(["---"] * 3 + ["---:"] * len(names))]
    for row in record["rows"]:
        cells = [_cell(row["figures"].get(name)) for name in names]
        lines.append(_line([row["stage"], row["checkpoint"], row["feed"], *cells]))
    lines += ["", "| stage | loses by itself | loses by its input |", "|---|---:|---:|"]
    for loss in record["losses"]:
        lines.append(
            _line([loss["stage"], _cell(loss["own"]), _cell(loss["inherited"])])
        )
    unit = {OBJECT: "points of object accuracy", SPECTRUM: "dB of the spectrum"}
    lines += [
        "",
        f"Losses are in {unit[record['losses'][0]['figure']]}, means over "
        f"{record['manifest']['num']} captions with 95 % intervals. `spectrum dB` "
        "is the distance of a picture's power spectrum from that of the true pictures; "
        "it is no FID.",
    ]
    return "\n".join(lines) + "\n"


def _names(rows: Sequence[Row]) -> list[str]:
    there = {name for row in rows for name in row.values}
    return [name for name in HEADINGS if name in there]


def _cell(figure: Mapping[str, float] | None) -> str:
    if not figure:
        return "-"
    return f"{figure['mean']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
