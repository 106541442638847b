"""Results of evaluation as HTML: tables of any JSON, sweeps, and Markdown.

A list of records becomes one table, whose columns are the leaves of the records. What
has no such form is listed name by name, so no result of a later job is left out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from imagen_jax.evaluation.report.markup import Markup, escape, tag
from imagen_jax.evaluation.report.plots import number, plot

MAX_ROWS = 200
MAX_DEPTH = 6
LONG = 300  # letters of a value
INTERVAL = {"mean", "low", "high"}  # keys of a figure with its interval


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    label: str,
    best: int | None = None,
) -> Markup:
    """Returns a table that scrolls by itself where it is wider than the screen.

    Args:
      head: of the columns.
      rows: of values; numbers are right-aligned.
      label: what it holds.
      best: a row to point out.
    """
    right = [_is_number_column([row[i] for row in rows]) for i in range(len(head))]
    kind = ["number" if is_right else None for is_right in right]
    top = tag(
        "tr",
        [tag("th", h, scope="col", class_=c) for h, c in zip(head, kind, strict=True)],
    )
    body = [
        tag(
            "tr",
            [
                tag(
                    "th" if i == 0 else "td",
                    words(v),
                    class_=kind[i],
                    scope="row" if i == 0 else None,
                )
                for i, v in enumerate(row)
            ],
            class_="best" if index == best else None,
        )
        for index, row in enumerate(rows[:MAX_ROWS])
    ]
    more = None
    if len(rows) > MAX_ROWS:
        more = tag("p", f"The first {MAX_ROWS} of {len(rows)} rows.", class_="quiet")
    inner = tag("table", tag("thead", top), tag("tbody", body))
    region = tag(
        "div", inner, class_="scroll", tabindex=0, role="region", aria_label=label
    )
    return Markup(region + (more or ""))


def words(value: Any) -> str:
    """Returns a value of a cell in words."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case float():
            return number(value)
        case str():
            return value[:LONG] + "..." * (len(value) > LONG) or "-"
        case {"mean": float(mean), "low": float(low), "high": float(high)}:
            return f"{number(mean)} ({number(low)} to {number(high)})"
        case [*values]:
            there = [value for value in values if value != ""]
            return words(", ".join(map(words, there)))
        case dict():
            return words(", ".join(f"{k} {words(v)}" for k, v in value.items()))
    return str(value)


def find_warnings(result: Any, depth: int = 0) -> list[str]:
    """Returns the warnings that stand anywhere in a result."""
    if depth > MAX_DEPTH or not isinstance(result, dict | list):
        return []
    found: list[str] = []
    for name, value in (
        result.items() if isinstance(result, dict) else enumerate(result)
    ):
        if name in ("warnings", "warning") and value:
            found += map(words, value if isinstance(value, list) else [value])
        else:
            found += find_warnings(value, depth + 1)
    return found


def render_result(name: str, result: Any) -> Markup:
    """Returns a result as tables, that of a sweep with plots."""
    match result:
        case {"cells": [*cells]} if cells and all(map(_is_cell, cells)):
            return _render_sweep(name, result)
        case dict():
            return _render_dict(name, result, 0)
        case [dict(), *_]:
            return _render_records(name, result)
    return tag("p", words(result))


def _render_dict(name: str, result: Mapping[str, Any], depth: int) -> Markup:
    """Returns the plain values as one table, then what is nested."""
    plain: list[tuple[str, Any]] = []
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # by their keys
    nested: list[str] = []
    for key, value in result.items():
        if key in ("warnings", "warning"):
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            nested.append(tag("h4", key) + _render_records(f"{name}: {key}", value))
        elif not isinstance(value, dict) or set(value) == INTERVAL:
            plain.append((key, value))
        elif len(value) > 1 and all(isinstance(v, dict) for v in value.values()):
            records = [{"name": inner, **v} for inner, v in value.items()]
            inner = _render_records(f"{name}: {key}", records)
            nested.append(tag("details", tag("summary", key), inner))
        elif any(isinstance(v, dict) for v in value.values()) and depth < MAX_DEPTH:
            inner = _render_dict(f"{name}: {key}", value, depth + 1)
            nested.append(tag("details", tag("summary", key), inner))
        else:
            alike.setdefault(tuple(value), []).append({"name": key, **value})
    first = table(("name", "value"), plain, name) if plain else ""
    grouped = [_render_records(name, records) for records in alike.values()]
    return Markup(first + "".join(grouped) + "".join(nested))


def _render_records(name: str, records: Sequence[Any]) -> Markup:
    """Returns a table of records; a record within one gives columns of its own."""
    flat = [
        _flat(record) if isinstance(record, dict) else {"value": record}
        for record in records
    ]
    head = list(dict.fromkeys(key for record in flat for key in record))
    return table(head, [[record.get(key) for key in head] for record in flat], name)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record with the records in it spread; an interval stays one value."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and set(value) != INTERVAL:
            flat |= {inner: v for inner, v in value.items() if inner not in record}
        else:
            flat[key] = value
    return flat


def _render_sweep(name: str, result: Mapping[str, Any]) -> Markup:
    """Returns a sweep's plots, its table with the best cell, and what else it holds."""
    cells = result["cells"]
    rest = {key: value for key, value in result.items() if key not in ("cells", "best")}
    records = [{**cell["settings"], **cell["scores"]} for cell in cells]
    head = list(dict.fromkeys(key for record in records for key in record))
    best = (
        [cell["settings"] for cell in cells].index(result["best"])
        if (result.get("best") in [cell["settings"] for cell in cells])
        else None
    )
    rows = [[record.get(key) for key in head] for record in records]
    plots = _sweep_plots(cells)
    return Markup(
        (tag("div", plots, class_="plots") if plots else "")
        + table(head, rows, name, best)
        + _render_dict(name, rest, 0)
    )


def _sweep_plots(cells: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Returns a plot of each score over the first setting whose values are numbers."""
    settings = cells[0]["settings"]
    axis = next(
        (
            key
            for key in settings
            if all(_is_real(cell["settings"].get(key)) for cell in cells)
        ),
        None,
    )
    if axis is None or len({cell["settings"][axis] for cell in cells}) < 2:
        return []
    plots = []
    for score in cells[0]["scores"]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for cell in cells:
            others = {k: v for k, v in cell["settings"].items() if k != axis}
            if _is_real(cell["scores"].get(score)):
                point = (float(cell["settings"][axis]), float(cell["scores"][score]))
                lines.setdefault(words(others) or score, []).append(point)
        if lines:
            drawn = plot({k: sorted(v) for k, v in lines.items()}, score, axis)
            plots.append(tag("figure", tag("figcaption", score), drawn))
    return plots


def render_markdown(text: str) -> Markup:
    """Returns headings, tables and paragraphs of a Markdown text; all else as words."""
    parts: list[str] = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        line = lines[i].strip()
        if (
            line.startswith("|")
            and i + 1 < len(lines)
            and re.match(r"\|[\s:|-]+$", lines[i + 1].strip())
        ):
            end = i + 2
            while end < len(lines) and lines[end].strip().startswith("|"):
                end += 1
            head, rows = _cells(line), [_cells(row) for row in lines[i + 2 : end]]
            fitted = [(row + [""] * len(head))[: len(head)] for row in rows]
            parts.append(table(head, fitted, "table"))
            i = end
            continue
        if line.startswith("#"):
            parts.append(tag("h4", line.lstrip("# ")))
        elif line:
            parts.append(tag("p", escape(line)))
        i += 1
    return Markup("".join(parts))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _is_cell(cell: Any) -> bool:
    match cell:
        case {"settings": dict(), "scores": dict()}:
            return True
    return False


def _is_real(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value == value
    )


def _is_number_column(values: Sequence[Any]) -> bool:
    there = [value for value in values if value is not None]
    return bool(there) and all(
        _is_real(v)
        or bool(re.match(r"[-+]?\d[\d.]*( |%|$)", words(v)))
        or words(v) == "-"
        for v in there
    )
