"""The report on a shapes model: which facts of their sentences do its pictures show?

A group is a kind of scene of a split, as in `imagen_jax.data.sources.shapes`. The
report is a dict that is JSON as it stands; what could not be measured is None. Keys:

  n, side: pictures scored, empty prompts not counted, and their side in pixels.
  groups: of each group n, the share of pictures that pass each of `FACTS`, 95 %
    intervals of these, and the share that pass "all" of three baselines:
      real: pictures that the set draws of the same sentences; must be 1.
      shuffled: the same pictures against the group's other sentences.
      unconditional: pictures of the empty prompt against the group's sentences.
  splits: the share that pass "all" over the groups of each split, and of "held_out",
    which is all splits but "seen"; every picture counts the same.
  swapped_pairs: of the split "binding", the share of pairs of sentences with swapped
    colours of which both pictures pass "all".
  targets, goals: what was asked of the recipe; minutes, cpu_seconds: as passed in.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.data.sources.shapes import KINDS, SPLITS, Scene, swap
from imagen_jax.data.sources.shapes_drawing import draw
from imagen_jax.errors import UserError
from imagen_jax.evaluation.intervals import share_interval
from imagen_jax.evaluation.shapes_checker import FACTS, Seen, judge, look
from imagen_jax.evaluation.shapes_samples import ShapesSample, read_samples, split_of

TARGETS = {"seen/single": 0.95, "colour_shape/single": 0.80}
GOALS = {"seen": 0.90, "held_out": 0.75}
MAX_MINUTES = 45.0
NUM_SHIFTS = 16  # sentences that each picture of a baseline is held against


def make_shapes_report(
    samples_dir: Path,
    *,
    minutes: float | None = None,
    cpu_seconds: float | None = None,
) -> dict[str, Any]:
    """Returns the report of a folder of samples; the same folder gives the same one.

    Args:
      samples_dir: the pictures and their manifest.jsonl.
      minutes: wall time of the run.
      cpu_seconds: CPU time of the run.

    Raises:
      UserError: for anything unusable in the folder.
    """
    samples, side = read_samples(samples_dir)
    unread = [sample.seen for sample in samples if sample.scene is None]
    groups = _group(samples)
    if not groups:
        raise UserError(
            f"all {len(samples)} pictures in {samples_dir} are of the empty prompt; "
            "sample some of sentences, as prompts.jsonl of the set lists them"
        )
    rows = {name: _row(name, *group, unread, side) for name, group in groups.items()}
    report: dict[str, Any] = {
        "minutes": minutes,
        "cpu_seconds": cpu_seconds,
        "n": sum(row["n"] for row in rows.values()),
        "side": side,
        "groups": rows,
        "splits": _splits(groups),
        "swapped_pairs": _swapped_pairs(groups.get("binding/relation", ([], []))),
    }
    report["targets"] = {
        name: _check(rows.get(name, {}).get("all"), limit)
        for name, limit in TARGETS.items()
    }
    report["targets"]["minutes"] = {
        "target": f"<= {MAX_MINUTES:g}",
        "value": minutes,
        "met": None if minutes is None else minutes <= MAX_MINUTES,
    }
    report["goals"] = {
        name: _check(report["splits"].get(name, {}).get("share"), limit)
        for name, limit in GOALS.items()
    }
    return report


_Group = tuple[list[Seen], list[Scene]]


def _group(samples: Iterable[ShapesSample]) -> dict[str, _Group]:
    """Returns what was seen and asked for by "split/kind", in the set's order."""
    names = [f"{s}/{k}" for s in (*SPLITS[1:], "several") for k in KINDS]
    groups: dict[str, _Group] = {name: ([], []) for name in names}
    for seen, scene in samples:
        if scene is not None:
            seens, scenes = groups[f"{split_of(scene)}/{scene.kind}"]
            seens.append(seen)
            scenes.append(scene)
    return {name: group for name, group in groups.items() if group[0]}


def _row(
    name: str, seens: list[Seen], scenes: list[Scene], unread: list[Seen], side: int
) -> dict[str, Any]:
    verdicts = [judge(*pair) for pair in zip(seens, scenes, strict=True)]
    real = [
        judge(look(draw(scene, (len(name), i), side)), scene)["all"]
        for i, scene in enumerate(scenes)
    ]
    row: dict[str, Any] = {"n": len(seens), "intervals": {}}
    for fact in FACTS:
        row[fact], row["intervals"][fact] = _share([v[fact] for v in verdicts])
    row["real"] = _share(real)[0]
    row["shuffled"] = _against_others(seens, scenes, first=1)
    row["unconditional"] = _against_others(unread, scenes, first=0)
    return row


def _share(passed: Sequence[bool]) -> tuple[float, dict[str, float]]:
    """Returns the share that passed, and its interval."""
    ends = share_interval(sum(passed), len(passed))._asdict()
    share = round(sum(passed) / len(passed), 4)
    return share, {end: round(at, 4) for end, at in ends.items()}


def _against_others(seens: list[Seen], scenes: list[Scene], first: int) -> float | None:
    """Returns how often pictures pass "all" of sentences not their own, None of none.

    Picture i is held against the sentences i + k for `NUM_SHIFTS` values of k from
    `first` on, those that equal sentence i left out if i has one (first > 0).
    """
    passed = []
    shifts = np.unique(np.linspace(first, len(scenes) - 1, NUM_SHIFTS).astype(int))
    for i, seen in enumerate(seens):
        for k in shifts[shifts >= first]:
            other = scenes[(i + int(k)) % len(scenes)]
            if not first or other != scenes[i]:
                passed.append(judge(seen, other)["all"])
    return round(sum(passed) / len(passed), 4) if passed else None


def _splits(groups: Mapping[str, _Group]) -> dict[str, dict[str, Any]]:
    passed: dict[str, list[bool]] = {}
    for name, (seens, scenes) in groups.items():
        split = name.split("/")[0]
        right = [judge(*pair)["all"] for pair in zip(seens, scenes, strict=True)]
        for key in (split,) if split == "seen" else (split, "held_out"):
            passed.setdefault(key, []).extend(right)
    splits = {}
    for key, right in passed.items():
        share, interval = _share(right)
        splits[key] = {"n": len(right), "share": share, "interval": interval}
    return splits


def _swapped_pairs(group: _Group) -> dict[str, Any] | None:
    """Returns the share of pairs that pass as a whole, None if there is none."""
    verdicts: dict[Scene, list[bool]] = {}
    for seen, scene in zip(*group, strict=True):
        verdicts.setdefault(scene, []).append(judge(seen, scene)["all"])
    passed = []
    for scene, right in verdicts.items():
        partner = swap(scene)
        if scene < partner:  # each pair once
            both = zip(right, verdicts.get(partner, []), strict=False)
            passed.extend(a and b for a, b in both)
    if not passed:
        return None
    share, interval = _share(passed)
    return {"n": len(passed), "share": share, "interval": interval}


def _check(value: float | None, limit: float) -> dict[str, Any]:
    met = None if value is None else value >= limit
    return {"target": f">= {limit:g}", "value": value, "met": met}


def format_shapes_report(report: Mapping[str, Any]) -> str:
    """Returns the report as a Markdown table, with targets and goals below."""
    heads = ("group", "n", *FACTS, "95 % of all", "real", "shuffled", "unconditional")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in report["groups"].items():
        ends = row["intervals"]["all"]
        cells = [name, str(row["n"]), *(_percent(row[fact]) for fact in FACTS)]
        cells.append(f"{_percent(ends['low'])} to {_percent(ends['high'])}")
        cells += [_percent(row[key]) for key in ("real", "shuffled", "unconditional")]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for name, split in report["splits"].items():
        lines.append(f"- {name}: {_with_interval(split)}")
    pairs = report["swapped_pairs"]
    if pairs:
        lines.append(f"- both of a swapped pair: {_with_interval(pairs)}")
    for title in ("targets", "goals"):
        for name, check in report[title].items():
            met = {True: "met", False: "MISSED", None: "not measured"}[check["met"]]
            lines.append(f"- {title[:-1]} {name} {check['target']}: {met}")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _with_interval(figure: Mapping[str, Any]) -> str:
    low, high = (_percent(figure["interval"][end]) for end in ("low", "high"))
    return f"{_percent(figure['share'])} % of {figure['n']} ({low} to {high})"
