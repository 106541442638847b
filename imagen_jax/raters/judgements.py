"""Answers as numbers about the systems, and which raters count.

Sides are undone here: on the page nobody knows them. Values of the measures:

    quality        1 if the model was chosen as more real, else 0
    alignment      100, 50 or 0 for yes, somewhat, no; one measure for each system
    fidelity, alignment of DrawBench: -1 prefer a, 0 indifferent, 1 prefer b
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from imagen_jax.raters.estimates import Ratings
from imagen_jax.raters.recorded import Answer, Recorded

KEEP_SHARE = 0.8
"""Raters with at least this share of their controls right count."""

ALIGNMENT_VALUES = {"yes": 100.0, "somewhat": 50.0, "no": 0.0}
PREFERENCE_VALUES = {"1": -1.0, "same": 0.0, "2": 1.0}

PEOPLE_WORDS = (
    "man men woman women person people child adult adults boy boys girl girls guy lady "
    "ladies someone toddler player workers spectators"
).split()
"""A prompt with one of these words is not in the "no people" set.

Source: arXiv:2205.11487, section 3. It lists "(sport) player": read here as the word
player anywhere, as a program cannot tell one of sport from one of music.
"""

_PEOPLE = re.compile(rf"\b({'|'.join(PEOPLE_WORDS)})\b", re.IGNORECASE)


class Verdict(NamedTuple):
    """Whether a rater counts.

    Attributes:
      rater: id.
      num_answered: trials answered, controls among them.
      num_trials: trials of the plan.
      controls_right: controls answered right.
      controls_seen: controls answered.
      is_kept: whether the answers count.
      why: the reason if they do not, else "".
    """

    rater: int
    num_answered: int
    num_trials: int
    controls_right: int
    controls_seen: int
    is_kept: bool
    why: str


def has_people(prompt: str) -> bool:
    """Returns whether the "no people" set leaves the prompt out."""
    return _PEOPLE.search(prompt) is not None


def judge_raters(recorded: Recorded) -> list[Verdict]:
    """Returns a verdict on every rater that has a link, in order."""
    seen, right, answered = Counter(), Counter(), Counter()
    for answer in recorded.answers:
        if answer.question != "fidelity":  # DrawBench's second question on a page
            answered[answer.rater] += 1
        if answer.trial.is_control:
            seen[answer.rater] += 1
            right[answer.rater] += control_is_right(recorded, answer)
    has_controls = recorded.manifest["settings"]["num_controls"] > 0
    verdicts = []
    for rater, num_trials in sorted(recorded.num_trials.items()):
        why = ""
        if not answered[rater]:
            why = "answered nothing"
        elif has_controls and not seen[rater]:
            why = "answered no control trial"
        elif right[rater] < KEEP_SHARE * seen[rater]:
            share = right[rater] / seen[rater]
            why = (
                f"{right[rater]} of {seen[rater]} controls right "
                f"({100 * share:.0f} %, below {100 * KEEP_SHARE:.0f} %)"
            )
        verdicts.append(
            Verdict(
                rater,
                answered[rater],
                num_trials,
                right[rater],
                seen[rater],
                not why,
                why,
            )
        )
    return verdicts


def control_is_right(recorded: Recorded, answer: Answer) -> bool:
    """Returns whether the answer to a control trial is right."""
    if recorded.kind == "quality":
        return chosen_system(answer) == 0
    control = recorded.manifest["controls"][int(answer.trial.item) - 1]
    return answer.answer in control["accepted"]


def chosen_system(answer: Answer) -> int:
    """Returns which system's picture was chosen, the sides undone: 0 or 1."""
    return int(answer.answer == "2") ^ int(answer.trial.swapped)


def rating_value(kind: str, answer: Answer) -> float:
    """Returns an answer as the number that its measure averages."""
    match kind:
        case "quality":
            return float(chosen_system(answer) == 0)
        case "alignment":
            return ALIGNMENT_VALUES[answer.answer]
        case _:
            value = PREFERENCE_VALUES[answer.answer]
            return -value if answer.trial.swapped else value


def select_ratings(
    recorded: Recorded,
    question: str,
    system: int | None = None,
    keep_prompt: Callable[[str], bool] = lambda prompt: True,
) -> Ratings:
    """Returns the ratings of one measure by the raters that count.

    Args:
      recorded: the study.
      question: "quality", "alignment" or "fidelity".
      system: of alignment, whose pictures; None for all.
      keep_prompt: whether a prompt is in the set.

    Returns:
      Ratings whose items are pairs; of alignment, the pictures of either system.
    """
    kept = {verdict.rater for verdict in judge_raters(recorded) if verdict.is_kept}
    index = {item["name"]: i for i, item in enumerate(recorded.manifest["items"])}
    items = recorded.manifest["items"]
    categories = sorted({item["category"] for item in items})

    def rows() -> Iterable[tuple[int, int, int, float]]:
        for answer in recorded.answers:
            trial = answer.trial
            if trial.is_control or answer.rater not in kept:
                continue
            item = items[index[trial.item]]
            if (
                answer.question == question
                and (system is None or trial.system == system)
                and keep_prompt(item["prompt"])
            ):
                stratum = 0
                if recorded.kind == "drawbench":
                    stratum = categories.index(item["category"])
                value = rating_value(recorded.kind, answer)
                shown = 2 * index[trial.item] + (trial.system or 0)
                yield answer.rater, shown, stratum, value

    table = np.array(list(rows()), float).reshape(-1, 4)
    rater, item, stratum = table[:, :3].astype(int).T
    return Ratings(rater, item, stratum, table[:, 3])
