"""The report's page: one HTML file that loads nothing and needs no script."""

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from imagen_jax.evaluation.report.gather import Folder, Picture, Run
from imagen_jax.evaluation.report.markup import Markup, escape, tag
from imagen_jax.evaluation.report.plots import number, plot
from imagen_jax.evaluation.report.tables import (
    find_warnings,
    render_markdown,
    render_result,
    table,
)

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
RISEN = 1.05  # a held-out loss this far above its lowest is told
# Heading -> metrics; a name that ends in * takes all that begin so.
PLOTS = {
    "Loss": ("loss", "heldout/loss"),
    "Held-out loss by log-SNR": ("heldout/loss_logsnr_*",),
    "Learning rate": ("learning_rate",),
    "Gradient norm": ("grad_norm",),
    "Pictures per second": ("pictures_per_sec",),
    "Scores of the previews": ("preview/*",),
    "Held-out loss of other averages": ("heldout/*",),
    "Movement of the weights": ("health/moved/*",),
    "Error against the best constant": ("health/error_ratio/*",),
    "Colour drift in levels": ("health/colour_drift/*",),
}
FROM_ZERO = (
    "Learning rate",
    "Pictures per second",
    "Scores of the previews",
)  # vertical axes
MAX_LINES = 8  # of a plot


def make_page(
    runs: Sequence[Run],
    folders: Sequence[Folder],
    versions: Mapping[str, str],
    made: str,
    title: str = "Report",
) -> str:
    """Returns the page.

    Args:
      runs: training runs, from the base up.
      folders: of evaluation.
      versions: of the packages that made the page.
      made: when it was made.
      title: of the page.
    """
    sections = [
        *[(f"Run {run.name}", _run_section(run)) for run in runs],
        *[(f"Results {folder.name}", _folder_section(folder)) for folder in folders],
        ("Settings and versions", _settings_section(runs, versions)),
    ]
    if runs:
        sections.insert(0, ("Overview", _overview(runs)))
    links = [
        tag("li", tag("a", name, href=f"#s{i}")) for i, (name, _) in enumerate(sections)
    ]
    body = [
        tag("section", tag("h2", name), content, id=f"s{i}")
        for i, (name, content) in enumerate(sections)
    ]
    style = importlib.resources.files("imagen_jax.evaluation.report") / "style.css"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style.read_text("utf-8"))),
    ]
    top = tag("header", tag("h1", title), tag("p", f"Made {made} by imagen_jax."))
    page = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        top,
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag("main", body, id="content", tabindex=-1),
    ]
    html = tag("html", tag("head", head), tag("body", page), lang="en")
    return f"<!doctype html>\n{html}\n"


def _overview(runs: Sequence[Run]) -> Markup:
    head = (
        "run",
        "stage",
        "pixels",
        "steps",
        "of",
        "loss",
        "held-out loss",
        "pictures/s",
    )
    rows = []
    for run in runs:
        steps = [points[-1][0] for points in run.curves.values()]
        train = run.config.get("train")
        rows.append(
            [
                run.name,
                run.config.get("name"),
                run.config.get("resolution"),
                int(max(steps)) if steps else None,
                train.get("num_steps") if isinstance(train, dict) else None,
                *[_last(run, n) for n in ("loss", "heldout/loss", "pictures_per_sec")],
            ]
        )
    return table(head, rows, "Overview of the runs")


def _last(run: Run, name: str) -> float | None:
    return run.curves[name][-1][1] if name in run.curves else None


def _run_section(run: Run) -> list[Markup | None]:
    left = dict(run.curves)
    plots = []
    for heading, patterns in PLOTS.items():
        chosen = [n for n in left if any(_matches(n, p) for p in patterns)]
        lines = {name: left.pop(name) for name in chosen}
        plots += _figures(heading, lines)
    others = [f for name, line in left.items() for f in _figures(name, {name: line})]
    parts: list[Markup | None] = [_notes(run.notes), _health(run)]
    if plots:
        parts += [tag("h3", "Curves"), tag("div", plots, class_="plots")]
    if others:
        grid = tag("div", others, class_="plots")
        parts.append(tag("details", tag("summary", "Other figures"), grid))
    if run.previews:
        parts += [tag("h3", "Previews"), _pictures(run.previews)]
    return parts


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _figures(heading: str, lines: Mapping[str, Any]) -> list[Markup]:
    """Returns plots of some lines, `MAX_LINES` in each."""
    figures, names = [], list(lines)
    for start in range(0, len(names), MAX_LINES):
        part = {name: lines[name] for name in names[start : start + MAX_LINES]}
        short = {_short(name, names): line for name, line in part.items()}
        caption = tag("figcaption", heading)
        figures.append(
            tag("figure", caption, plot(short, heading, from_zero=heading in FROM_ZERO))
        )
    return figures


def _short(name: str, names: Sequence[str]) -> str:
    """Returns a name for the legend: of many of one kind only what differs."""
    stem = "heldout/loss_logsnr_"
    if len(names) > 1 and name.startswith(stem):
        return name.removeprefix(stem).replace("_", " to ")
    if len(names) > 1 and name.startswith(("health/", "preview/")):
        return name.rpartition("/")[2]
    return name


def _health(run: Run) -> Markup | None:
    """Returns sentences on what went wrong, then the last health figures."""
    found = [
        f"{name} was not finite (lines of metrics.jsonl: {count})"
        for name, count in run.not_finite.items()
    ]
    if skipped := _last(run, "num_skipped"):
        found.append(f"skipped updates, which were not finite: {skipped:g}")
    if heldout := run.curves.get("heldout/loss"):
        step, lowest = min(heldout, key=lambda point: point[1])
        if heldout[-1][1] > RISEN * lowest:
            found.append(
                f"the held-out loss rose from {number(lowest)} at step {step:g} to "
                f"{number(heldout[-1][1])} at the end"
            )
    figures = {n: line[-1] for n, line in run.curves.items() if n.startswith("health/")}
    if not run.curves:
        return None
    words = _notes(found) or tag(
        "p", "No skipped update, no figure that is not finite.", class_="quiet"
    )
    parts = [tag("h3", "Health"), words]
    if figures:
        rows = [[name, value, int(step)] for name, (step, value) in figures.items()]
        inner = table(("figure", "last value", "step"), rows, "Health figures")
        parts.append(tag("details", tag("summary", "All health figures"), inner))
    return Markup("".join(parts))


def _folder_section(folder: Folder) -> list[Markup | None]:
    parts: list[Markup | None] = [_notes(folder.notes)]
    for name, result in folder.results.items():
        parts += [tag("h3", name), _notes(find_warnings(result))]
        shown = render_result(name, result)
        if f"{name.removesuffix('.json')}.md" in folder.texts:  # the same in words
            shown = tag("details", tag("summary", f"All of {name}"), shown)
        parts.append(shown)
    for name, text in folder.texts.items():
        inner = render_markdown(text)
        parts += [tag("h3", name), inner]
    if folder.pictures:
        parts += [tag("h3", "Pictures"), _pictures(folder.pictures)]
    return parts


def _settings_section(runs: Sequence[Run], versions: Mapping[str, str]) -> list[Markup]:
    rows = [list(row) for row in versions.items()]
    parts = [table(("package", "version"), rows, "Versions that made this page")]
    for run in runs:
        if run.config:
            text = tag("pre", json.dumps(run.config, indent=2), tabindex=0)
            summary = tag("summary", f"config.json of {run.name}")
            parts.append(tag("details", summary, text))
    return parts


def _pictures(pictures: Sequence[Picture]) -> Markup:
    shown = [
        tag(
            "figure",
            tag(
                "img",
                src=picture.data,
                alt=f"Pictures of {picture.name}",
                width=picture.width,
                height=picture.height,
            ),
            tag("figcaption", picture.name),
            class_="picture",
        )
        for picture in pictures
    ]
    return tag("div", shown, class_="pictures")


def _notes(notes: Sequence[str]) -> Markup | None:
    if not notes:
        return None
    return tag("ul", [tag("li", escape(note)) for note in notes], class_="notes")
