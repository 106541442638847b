"""The tables of a report: the paper's table 2, figure 3 as numbers, and CSV files."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.raters.estimates import (
    Estimate,
    Ratings,
    estimate_mean,
    krippendorff_alpha,
)
from imagen_jax.raters.judgements import (
    Verdict,
    has_people,
    judge_raters,
    rating_value,
    select_ratings,
)
from imagen_jax.raters.recorded import Recorded
from imagen_jax.raters.settings import QUESTIONS

SETS = {"original": lambda prompt: True, "no people": lambda p: not has_people(p)}
OVERALL = "all categories"


class Row(NamedTuple):
    """One figure of a report.

    Attributes:
      set: "original" or "no people"; of DrawBench the category.
      system: whose figure; of DrawBench the preferred one, or "indifferent".
      measure: "photorealism", "alignment" or "fidelity".
      estimate: in percent or points of 100; None where there are no ratings, or where
        the figure is 50 by definition (the reference's photorealism).
    """

    set: str
    system: str
    measure: str
    estimate: Estimate | None


def coco_rows(studies: Sequence[Recorded]) -> list[Row]:
    """Returns table 2: of each set, the reference's row and then the model's.

    Args:
      studies: of the kinds quality and alignment, of one model and one reference.

    Raises:
      UserError: if two studies are of one kind, or their systems have other names.
    """
    by_kind = {study.kind: study for study in studies}
    if len(by_kind) < len(studies):
        raise UserError(
            f"{len(studies)} studies were given, two of one kind; a table is of one "
            "quality and one alignment study at most"
        )
    if len({study.names for study in studies}) > 1:
        listed = " and ".join(" against ".join(study.names) for study in studies)
        raise UserError(
            f"the studies are of {listed}; studies of one table compare the same two"
        )
    rows = []
    for name, keep in SETS.items():
        for system in (1, 0):
            label = studies[0].names[system]
            if study := by_kind.get("quality"):
                ratings = select_ratings(study, "quality", keep_prompt=keep)
                share = _percent(ratings) if system == 0 else None
                rows.append(Row(name, label, "photorealism", share))
            if study := by_kind.get("alignment"):
                ratings = select_ratings(study, "alignment", system, keep)
                rows.append(Row(name, label, "alignment", estimate_mean(ratings)))
    return rows


def drawbench_rows(study: Recorded) -> list[Row]:
    """Returns the share of each preference, over all and in each category."""
    categories = sorted({item["category"] for item in study.manifest["items"]})
    first, second = study.names
    rows = []
    for question in QUESTIONS["drawbench"]:
        ratings = select_ratings(study, question)
        for number, name in enumerate([OVERALL, *categories]):
            inside = ratings
            if number:
                here = ratings.stratum == number - 1
                inside = Ratings(*(column[here] for column in ratings))
            for value, label in ((-1, first), (0, "indifferent"), (1, second)):
                chosen = inside._replace(value=(inside.value == value).astype(float))
                rows.append(Row(name, label, question, _percent(chosen)))
    return rows


def agreement(study: Recorded) -> dict[str, float | None]:
    """Returns Krippendorff's alpha of each question among the raters that count."""
    metric = "nominal" if study.kind == "quality" else "interval"
    return {
        question: krippendorff_alpha(select_ratings(study, question), metric)
        for question in QUESTIONS[study.kind]
    }


def format_coco(rows: Sequence[Row]) -> str:
    """Returns table 2 as Markdown; +- is half of the 95 % interval."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        unit = "%" if row.measure == "photorealism" else ""
        text = f"50.0{unit}" if unit and _is_reference(row, rows) else "-"
        if row.estimate is not None:
            text = f"{row.estimate.mean:.1f}{unit} ± {row.estimate.half_width:.2f}"
        cells.setdefault((row.set, row.system), {})[row.measure] = text
    lines = ["| set | system | photorealism | alignment |", "|---|---|---|---|"]
    for (name, system), found in cells.items():
        quality, fit = found.get("photorealism", "-"), found.get("alignment", "-")
        lines.append(f"| {name} | {_cell(system)} | {quality} | {fit} |")
    return "\n".join(lines)


def format_drawbench(rows: Sequence[Row]) -> str:
    """Returns the preferences as Markdown, with both ends of the 95 % intervals."""
    systems = list(dict.fromkeys(row.system for row in rows))
    head = " | ".join(f"prefer {_cell(s)}" for s in systems)
    head = head.replace("prefer indifferent", "indifferent")
    lines = [f"| question | category | {head} | ratings |", "|---|---|---|---|---|---|"]
    for k in range(0, len(rows), len(systems)):
        group = rows[k : k + len(systems)]
        texts = [_with_interval(row.estimate) for row in group]
        num = group[0].estimate.num_ratings if group[0].estimate else 0
        label = f"{group[0].measure} | {_cell(group[0].set or '(none)')}"
        lines.append(f"| {label} | {' | '.join(texts)} | {num} |")
    return "\n".join(lines)


def format_raters(study: Recorded, verdicts: Sequence[Verdict]) -> str:
    """Returns who counts, how far they agree, and who was left out and why."""
    kept = sum(verdict.is_kept for verdict in verdicts)
    begun = [verdict for verdict in verdicts if verdict.num_answered]
    done = sum(v.num_answered == v.num_trials for v in begun)
    lines = [
        f"{study.kind} study in {study.folder}: {len(verdicts)} links, {len(begun)} "
        f"raters began, {done} finished, {kept} count."
    ]
    for question, alpha in agreement(study).items():
        text = "not known (no picture has two ratings)"
        if alpha is not None:
            text = f"{alpha:.2f} (1 is perfect, 0 is chance)"
        lines.append(f"Agreement on {question}, Krippendorff's alpha: {text}.")
    lines += [
        f"Left out: rater {verdict.rater}, {verdict.why}."
        for verdict in begun
        if not verdict.is_kept
    ]
    return "\n".join(lines)


def write_csv_files(
    out: Path, rows: Sequence[Row], studies: Sequence[Recorded]
) -> list[Path]:
    """Writes table.csv, and answers and raters of each study; returns the files.

    Links are in none of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "table.csv"]
    empty = [None] * len(Estimate._fields)
    _write(
        files[0],
        [*Row._fields[:-1], *Estimate._fields],
        ([*row[:-1], *(row.estimate or empty)] for row in rows),
    )
    for study in studies:
        verdicts = judge_raters(study)
        files.append(out / f"raters_{study.kind}.csv")
        _write(files[-1], Verdict._fields, verdicts)
        files.append(out / f"answers_{study.kind}.csv")
        header = (
            "rater position item prompt category is_control swapped system question "
            "answer value is_kept answered"
        ).split()
        _write(files[-1], header, _answer_rows(study, verdicts))
    return files


def _answer_rows(
    study: Recorded, verdicts: Sequence[Verdict]
) -> Iterable[Sequence[Any]]:
    items = {item["name"]: item for item in study.manifest["items"]}
    kept = {verdict.rater: verdict.is_kept for verdict in verdicts}
    for answer in study.answers:
        trial, value = answer.trial, None
        item = {"prompt": "", "category": ""}
        if not trial.is_control:
            item, value = items[trial.item], rating_value(study.kind, answer)
        system = None if trial.system is None else study.names[trial.system]
        yield (
            *(answer.rater, answer.position, trial.item),
            *(item["prompt"], item["category"], trial.is_control, trial.swapped),
            *(system, answer.question, answer.answer, value),
            *(kept[answer.rater], answer.answered),
        )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _percent(ratings: Ratings) -> Estimate | None:
    return estimate_mean(ratings._replace(value=100.0 * np.asarray(ratings.value)))


def _is_reference(row: Row, rows: Sequence[Row]) -> bool:
    return row.system == rows[0].system


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.mean:.1f} ({estimate.low:.1f} to {estimate.high:.1f})"


def _cell(text: str) -> str:
    """Returns a text that cannot end its cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
