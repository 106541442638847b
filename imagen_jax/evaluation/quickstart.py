"""The quickstart's report: does the cascade draw what its held-out prompts ask for?

Scored are the pictures of (concept, ground) pairs that were never trained on. The
report is a dict that is JSON as it stands; a figure that could not be measured is
None, and "verdict" says so. Its keys:

  minutes, cpu_seconds: as passed in; n: final pictures scored.
  object_accuracy, ground_accuracy: of the final pictures (stage sr256); with suffix
    _64 of the base stage's.
  object_accuracy_shuffled: mean over every derangement that gives each picture the
    prompt of the concept k places further on; its interval is their lowest and highest.
  control_object_accuracy: of real held-out pictures, composed afresh.
  sr_gain_db, sr_consistency_db, sr_low_res_swap_db: means of
    `imagen_jax.evaluation.super_resolution.sr_metrics`.
  intervals: 95 % intervals; per_concept; training_curve: the base stage's loss and
    preview accuracies at `NUM_POINTS` equal parts of training; targets; verdict.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.evaluation import samples as inputs
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.intervals import Interval, mean_interval, share_interval
from imagen_jax.evaluation.prompt_score import (
    PICTURES_PER_PAIR,
    Score,
    score_controls,
    score_samples,
    shuffled_accuracies,
    summarise_concepts,
)
from imagen_jax.evaluation.reference import compare, describe
from imagen_jax.evaluation.super_resolution import sr_metrics

NUM_POINTS = 10  # of the training curve
TARGETS = {
    "ground_accuracy": (">=", 0.98),
    "object_accuracy": (">=", 0.60),
    "object_accuracy_shuffled": ("<=", 0.15),
    "control_object_accuracy": (">=", 0.99),
    "sr_gain_db": (">=", 1.0),
    "sr_consistency_db": (">=", 25.0),
    "sr_low_res_swap_db": (">=", 10.0),
}
OBJECT_GOAL = 0.75  # of object_accuracy: hoped for, beyond the target
MAX_MINUTES = 15.0
MAX_CPU_SECONDS = 1800.0


def make_report(
    samples_dir: Path,
    run_dir: Path | None = None,
    reference: dict[str, dict[str, Any]] | None = None,
    *,
    minutes: float | None = None,
    cpu_seconds: float | None = None,
    set_name: str = "default",
) -> dict[str, Any]:
    """Returns the report of a folder of samples; the same folder gives the same one.

    Args:
      samples_dir: the pictures and their manifest.jsonl.
      run_dir: holds sr_probe.npz and base/metrics.jsonl; None leaves out what is
        measured from them.
      reference: as made by `imagen_jax.evaluation.reference.make_reference`.
      minutes: wall time of the run.
      cpu_seconds: CPU time of the run.
      set_name: the OpenMoji set that was trained on.

    Raises:
      UserError: for anything unusable in those folders.
    """
    if run_dir is not None and not run_dir.is_dir():
        raise UserError(f"--run names {run_dir}, which is not a folder; pass the run's")
    listed = inputs.read_manifest(samples_dir, set_name)
    held_out = [sample for sample in listed if sample.pair.held_out]
    if not held_out:
        raise UserError(
            f"none of the {len(listed)} pictures in {samples_dir} is of a held-out "
            "pair; sample the held-out prompts"
        )
    probe = inputs.read_sr_probe(run_dir) if run_dir else None
    metrics = inputs.read_metrics(run_dir) if run_dir else None
    scorer = EmojiScorer(set_name)
    base, final = (
        score_samples(scorer, [s for s in held_out if s.stage == stage])
        for stage in inputs.STAGES
    )
    pairs = [pair for pair in openmoji.pairs(set_name) if pair.held_out]
    report: dict[str, Any] = {
        "minutes": minutes,
        "cpu_seconds": cpu_seconds,
        "n": len(final.wanted),
        "intervals": {},
    }
    _add_shares(report, base, final, score_controls(scorer, pairs))
    _add_super_resolution(report, probe)
    report["per_concept"] = summarise_concepts(scorer.concepts, base, final)
    report["training_curve"] = metrics and training_curve(metrics[0], NUM_POINTS)
    report["targets"] = check_targets(report)
    notes = [describe(report, reference), *_notes(report, run_dir, len(pairs))]
    if metrics and metrics[1]:
        notes.append(f"{metrics[1]} unreadable lines of metrics.jsonl were left out.")
    report["verdict"] = " ".join(notes)
    return report


def _add_shares(report: dict[str, Any], base: Score, final: Score, control: Score):
    """Adds every accuracy with its interval."""
    shares = {
        "ground_accuracy": final.ground_right,
        "object_accuracy": final.object_right,
        "ground_accuracy_64": base.ground_right,
        "object_accuracy_64": base.object_right,
        "control_object_accuracy": control.object_right,
    }
    for name, right in shares.items():
        total, count = len(right), int(right.sum())
        interval = share_interval(count, total) if total else None
        _add_figure(report, name, count / total if total else None, interval)
    shuffled = shuffled_accuracies(final)
    if len(shuffled):
        ends = Interval(float(shuffled.min()), float(shuffled.max()))
        mean = float(shuffled.mean())
    else:
        mean, ends = None, None
    _add_figure(report, "object_accuracy_shuffled", mean, ends)


def _add_super_resolution(report: dict[str, Any], probe: inputs.SRProbe | None):
    """Adds the means of the super-resolution figures with their intervals."""
    metrics = probe and sr_metrics(probe.output, probe.truth, probe.low_res)
    for name in ("gain_db", "consistency_db", "swap_db"):
        values = getattr(metrics, name, None)
        key = "sr_low_res_swap_db" if name == "swap_db" else f"sr_{name}"
        if values is None:
            _add_figure(report, key, None, None)
        else:  # a single picture has no interval
            interval = mean_interval(values) if len(values) > 1 else None
            _add_figure(report, key, float(values.mean()), interval)


def _add_figure(
    report: dict[str, Any], name: str, value: float | None, interval: Interval | None
):
    report[name] = None if value is None else round(value, 4)
    if interval is not None:
        ends = {end: round(at, 4) for end, at in interval._asdict().items()}
        report["intervals"][name] = ends


def training_curve(
    by_step: Mapping[int, Mapping[str, Any]], num_points: int
) -> list[dict[str, Any]] | None:
    """Returns loss and preview accuracies at equal parts of training, or None.

    A point's loss is the mean over its part, which ends at its step; its accuracies
    are those of the last preview up to there. What was not logged is None.

    Args:
      by_step: metrics of each logged step; the last step is taken as the end.
      num_points: parts that training is divided into.
    """
    last = max(by_step, default=0)
    if last < 1:
        return None
    points = []
    for number in range(1, num_points + 1):
        start, stop = last * (number - 1) / num_points, last * number / num_points
        losses = [
            metrics.get("loss")
            for step, metrics in by_step.items()
            if start < step <= stop
        ]
        point = {"step": round(stop), "loss": _mean_or_none(losses)}
        for name in ("object_accuracy", "ground_accuracy"):
            key = f"preview/{name}"
            done = [step for step in by_step if step <= stop and key in by_step[step]]
            point[name] = _mean_or_none([by_step[max(done)][key]] if done else [])
        points.append(point)
    return points


def _mean_or_none(values: list[Any]) -> float | None:
    """Returns the mean of the numbers, or None without any or if it is not finite."""
    numbers = [value for value in values if isinstance(value, int | float)]
    mean = sum(numbers) / len(numbers) if numbers else math.nan
    return round(mean, 6) if math.isfinite(mean) else None


def check_targets(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns each target with the run's value; "met" is None if that is unknown."""
    checks = {}
    for name, (relation, limit) in TARGETS.items():
        value = report[name]
        met = None
        if value is not None:
            met = value >= limit if relation == ">=" else value <= limit
        checks[name] = {"target": f"{relation} {limit:g}", "value": value, "met": met}
    limits = {"minutes": MAX_MINUTES, "cpu_seconds": MAX_CPU_SECONDS}
    known = {name: report[name] for name in limits if report[name] is not None}
    checks["time"] = {
        "target": f"<= {MAX_MINUTES:g} minutes or {MAX_CPU_SECONDS:g} CPU-seconds",
        "value": known or None,
        "met": any(known[name] <= limits[name] for name in known) if known else None,
    }
    return checks


def _notes(
    report: Mapping[str, Any], run_dir: Path | None, num_pairs: int
) -> list[str]:
    """Returns the sentences of the verdict that tell of targets and of gaps."""
    checks = report["targets"].items()
    missed = [name for name, check in checks if check["met"] is False]
    unknown = [name for name, check in checks if check["met"] is None]
    met = len(checks) - len(missed) - len(unknown)
    notes = [f"{met} of {len(checks)} targets are met."]
    if missed:
        notes.append(f"Missed: {', '.join(missed)}.")
    if unknown:
        notes.append(f"Not measured: {', '.join(unknown)}.")
    full = num_pairs * PICTURES_PER_PAIR
    if report["n"] != full:
        notes.append(
            f"The targets are for {full} pictures; {report['n']} were scored, of "
            f"{len(report['per_concept'])} of {num_pairs} held-out pairs."
        )
    if run_dir is None:
        notes.append("No run was given, so there are no SR figures and no curve.")
    elif report["sr_gain_db"] is None:
        notes.append("The run has no sr_probe.npz, so there are no SR figures.")
    if run_dir is not None and report["training_curve"] is None:
        notes.append("The run has no steps in base/metrics.jsonl, so no curve.")
    return notes


def format_table(
    report: Mapping[str, Any], reference: dict[str, dict[str, Any]] | None
) -> str:
    """Returns the report as a short table with the verdict below, for a terminal."""
    bands = {c.figure: c for c in compare(dict(report), reference or {})}
    lines = [f"{'figure':<26}{'value':>9}  {'95 % interval':<17}{'target':<9}met  band"]
    for name in (*TARGETS, "ground_accuracy_64", "object_accuracy_64"):
        value, ends = report[name], report["intervals"].get(name)
        target = report["targets"].get(name, {"target": "", "met": ""})
        shown = "-" if value is None else f"{value:.3f}"
        interval = f"{ends['low']:.3f} to {ends['high']:.3f}" if ends else ""
        met = {True: "yes", False: "NO", None: "?"}.get(target["met"], "")
        band = bands.get(name)
        place = f"{band.place} {band.low:.3f} to {band.high:.3f}" if band else ""
        lines.append(
            f"{name:<26}{shown:>9}  {interval:<17}{target['target']:<9}{met:<5}{place}"
        )
    time = report["targets"]["time"]
    spent = ", ".join(f"{k} {v:.1f}" for k, v in (time["value"] or {}).items()) or "-"
    lines.append(f"n = {report['n']}; {spent} (target {time['target']})")
    goal = report["object_accuracy"]
    if goal is not None:
        reached = "reached" if goal >= OBJECT_GOAL else "not reached"
        lines.append(f"goal beyond the target, object >= {OBJECT_GOAL:g}: {reached}")
    return "\n".join([line.rstrip() for line in lines] + ["", report["verdict"]])
