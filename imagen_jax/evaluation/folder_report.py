"""The report of a run on one's own pictures (./launch/train_folder.sh).

The report is a dict that is JSON as it stands; a figure that could not be measured is
None. Its keys:

  minutes, cpu_seconds: as passed in.
  pictures: kept, captions (distinct ones), train, held_out, and dropped (by reason).
  stages: by name, steps, batch_size, loss_first and loss_last (means over the first and
    the last tenth of training), losses (by tenth), heldout_last, heldout_lowest and
    heldout_lowest_step (loss of the averaged weights on held-out pictures),
    pictures_per_sec (median), skipped (updates that were not finite).
  super_resolution: see `imagen_jax.evaluation.sr_report`; of held-out pictures.
  files: where things are, below the run's folder.
  notes: sentences on what the figures say.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from imagen_jax.config_file import read_config
from imagen_jax.data.indexing.format import MANIFEST, parse_manifest
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError
from imagen_jax.evaluation.quickstart import training_curve
from imagen_jax.evaluation.samples import read_metrics, read_sr_probe
from imagen_jax.evaluation.sr_report import describe_sr, make_sr_report

STAGES = ("base", "sr256")
FILES = {
    "samples of held-out captions": "grid.png",
    "single pictures": "samples/",
    "samples of your prompts": "prompts.png",
    "what was left out, and why": "index/dropped.csv",
    "base stage": "base/",
    "super-resolution stage": "sr256/",
    "embeddings of the captions": "store/",
}
_COLUMNS = (
    *("steps", "batch_size", "loss_first", "loss_last", "heldout_last"),
    "pictures_per_sec",
)
_TENTHS = 10
_HELDOUT = "heldout/loss"  # as the train loop logs it
_ROSE = 1.05  # a held-out loss that ends so many times above its lowest
_FEW = 100  # pictures; below it a model learns these by heart


def make_folder_report(
    run_dir: Path, *, minutes: float | None = None, cpu_seconds: float | None = None
) -> dict[str, Any]:
    """Returns the report of a run; see the module.

    Args:
      run_dir: has index/, base/, sr256/ and sr_probe.npz.
      minutes: wall time of the run.
      cpu_seconds: CPU time of the run.

    Raises:
      UserError: there is no run, or a file of it is damaged.
    """
    index = run_dir / "index"
    try:
        manifest = parse_manifest((index / MANIFEST).read_bytes(), str(index))
    except OSError as error:
        raise UserError(
            f"{run_dir} is no run of train_folder.sh ({index / MANIFEST}: "
            f"{error.strerror}); give the folder that its --run named"
        ) from error
    pictures = {"kept": manifest.num_records, "captions": manifest.num_captions}
    for split in ("train", "held_out"):
        pictures[split] = len(open_source(f"index:{index}:{split}"))
    report: dict[str, Any] = {
        "minutes": minutes,
        "cpu_seconds": cpu_seconds,
        "pictures": {**pictures, "dropped": manifest.dropped},
        "stages": {stage: _stage(run_dir, stage) for stage in STAGES},
        "super_resolution": None,
    }
    if (probe := read_sr_probe(run_dir)) is not None:
        report["super_resolution"] = make_sr_report(probe)
    report["files"] = {
        what: name for what, name in FILES.items() if (run_dir / name).exists()
    }
    report["notes"] = _notes(report)
    return report


def _stage(run_dir: Path, stage: str) -> dict[str, Any] | None:
    """Returns a stage's figures, None if it has not begun."""
    metrics = read_metrics(run_dir, stage)
    if metrics is None or not metrics[0]:
        return None
    by_step = metrics[0]
    losses = [point["loss"] for point in training_curve(by_step, _TENTHS) or []]
    known = [loss for loss in losses if loss is not None]
    held_out = {s: m[_HELDOUT] for s, m in by_step.items() if m.get(_HELDOUT)}
    lowest = min(held_out, key=lambda step: held_out[step], default=None)
    rates = [m["pictures_per_sec"] for m in by_step.values() if "pictures_per_sec" in m]
    return {
        "steps": max(by_step),
        "batch_size": read_config(run_dir / stage / "config.json").train.batch_size,
        "loss_first": known[0] if known else None,
        "loss_last": known[-1] if known else None,
        "losses": losses,
        "heldout_last": held_out[max(held_out)] if held_out else None,
        "heldout_lowest": held_out[lowest] if lowest else None,
        "heldout_lowest_step": lowest,
        "pictures_per_sec": round(median(rates), 2) if rates else None,
        "skipped": int(max(m.get("num_skipped", 0) for m in by_step.values())),
    }


def _notes(report: Mapping[str, Any]) -> list[str]:
    pictures, notes = report["pictures"], []
    if pictures["train"] < _FEW:
        notes.append(
            f"{pictures['train']} training pictures are few: expect the model to "
            "repeat them rather than to draw new ones."
        )
    dropped = sum(pictures["dropped"].values())
    if dropped > pictures["kept"]:
        notes.append(
            f"More pictures were left out ({dropped}) than kept: look into "
            "index/dropped.csv."
        )
    for name, stage in report["stages"].items():
        if stage is None:
            notes.append(f"Stage {name} has not been trained.")
            continue
        views = stage["steps"] * stage["batch_size"] / pictures["train"]
        notes.append(f"Stage {name} saw each training picture {views:.1f} times.")
        first, last = stage["loss_first"], stage["loss_last"]
        if first is None or last is None or not last < 0.9 * first:
            notes.append(
                f"The loss of stage {name} has hardly fallen: train it longer "
                "(--steps)."
            )
        if (stage["heldout_last"] or 0) > _ROSE * (stage["heldout_lowest"] or 0):
            notes.append(
                f"The held-out loss of stage {name} was lowest at step "
                f"{stage['heldout_lowest_step']} and rose after it: it learns its "
                "pictures by heart; train it less (--steps), or on more pictures."
            )
        if stage["skipped"]:
            notes.append(
                f"{stage['skipped']} updates of stage {name} were not finite and left "
                "out: lower optimizer.learning_rate if that goes on."
            )
    if report["super_resolution"] is None:
        notes.append("The super-resolution stage was not measured.")
    return notes


def format_folder_report(report: Mapping[str, Any], title: str) -> str:
    """Returns the report as Markdown that reads well as plain text too."""
    pictures = report["pictures"]
    spent = [
        f"{report[key]:.{digits}f} {unit}"
        for key, digits, unit in (
            ("minutes", 1, "minutes"),
            ("cpu_seconds", 0, "CPU s"),
        )
        if report[key] is not None
    ]
    lines = [f"# {title}", ""]
    if spent:
        lines += [f"Time: {', '.join(spent)}.", ""]
    lines += [
        f"Pictures: {pictures['kept']} kept with {pictures['captions']} distinct "
        f"captions, {pictures['train']} for training and {pictures['held_out']} held "
        f"out; {sum(pictures['dropped'].values())} left out.",
        "",
    ]
    if pictures["dropped"]:
        lines += ["| left out because | pictures |", "|---|---|"]
        counts = sorted(pictures["dropped"].items(), key=lambda item: -item[1])
        lines += [f"| {reason} | {num} |" for reason, num in counts]
        lines.append("")
    lines += [
        "| stage | steps | batch | loss, first tenth | last tenth | held-out | "
        "pictures/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, stage in report["stages"].items():
        values = [(stage or {}).get(key) for key in _COLUMNS]
        shown = ["-" if value is None else f"{value:g}" for value in values]
        lines.append(f"| {' | '.join([name, *shown])} |")
    lines += ["", "## What it says", ""]
    if report["super_resolution"] is not None:
        lines += [f"- {line}" for line in describe_sr(report["super_resolution"])]
    lines += [f"- {note}" for note in report["notes"]]
    lines += ["", "## Files", ""]
    lines += [f"- {what}: {name}" for what, name in report["files"].items()]
    if "grid.png" in report["files"].values():
        lines += ["", "![Samples of held-out captions](grid.png)"]
    return "\n".join(lines) + "\n"
