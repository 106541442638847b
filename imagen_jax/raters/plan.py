"""Which trials a rater sees: drawn, blinded, balanced, with controls among them.

- Pairs that were given to the fewest raters so far go first, ties at random, so the
  ratings spread evenly over the pairs.
- No pair comes twice, and of one prompt a rater judges only the model's or only the
  reference's alignment: a second look at the same caption would not be independent. A
  pair that one of the rater's controls shows is left out.
- Either side comes first in half of the trials, in random order.
- Controls are spread: one at a random place in each of as many equal parts.
- A DrawBench rater gets one category (rater i category i modulo their number), as in
  the paper, where each category was a run by itself.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.raters.controls import Control, Picture
from imagen_jax.raters.study import Item, Study


class Trial(NamedTuple):
    """One page of a rater.

    Attributes:
      item: name of the pair, or of the control.
      is_control: which of the two.
      swapped: whether the second system (of a control: the wrong picture) is shown
        first. False for alignment.
      system: alignment: 0 or 1, whose picture is shown; None for other kinds and for
        controls.
    """

    item: str
    is_control: bool
    swapped: bool
    system: int | None


Counts = Mapping[tuple[str, int | None], int]
"""How many raters have been given (item, system)."""


def plan_trials(study: Study, rater: int, counts: Counts) -> list[Trial]:
    """Returns the trials of a rater in order; the same for the same arguments.

    Args:
      study: what can be shown.
      rater: index, from 0.
      counts: of what earlier raters were given; what is not there counts 0.

    Raises:
      UserError: if the controls leave no pair to rate.
    """
    settings = study.settings
    rng = np.random.default_rng([settings.seed, 2, rater])
    num = settings.num_controls
    controls = [
        study.controls[i] for i in rng.choice(len(study.controls), num, replace=False)
    ]
    items = [item for item in _category(study, rater) if not clashes(item, controls)]
    if not items:
        raise UserError(
            "the controls show all pairs, so nothing is left to rate; make "
            "controls of other pictures or lower num_controls in study.toml"
        )
    is_alignment = settings.kind == "alignment"
    systems = (0, 1) if is_alignment else (None,)
    order = [items[i] for i in rng.permutation(len(items))]
    order.sort(key=lambda item: sum(counts.get((item.name, s), 0) for s in systems))
    chosen = order[: settings.batch]
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    sides = _balanced(len(chosen), rng)
    trials = []
    for item, side in zip(chosen, sides, strict=True):
        system = None
        if is_alignment:
            given = [counts.get((item.name, s), 0) for s in (0, 1)]
            system = int(side) if given[0] == given[1] else int(given[1] < given[0])
        swapped = side and not is_alignment
        trials.append(Trial(item.name, False, swapped, system))
    sides = _balanced(num, rng)
    return _interleave(
        trials,
        [
            Trial(control.name, True, side and not is_alignment, None)
            for control, side in zip(controls, sides, strict=True)
        ],
        rng,
    )


def clashes(item: Item, controls: Sequence[Control]) -> bool:
    """Returns whether a control shows the item's caption or one of its pictures."""
    hashes = {picture.sha256 for side in item.pictures for picture in side}
    return any(
        control.prompt == item.prompt
        or any(picture.sha256 in hashes for picture in control.pictures)
        for control in controls
    )


def shown_pictures(study: Study, trial: Trial) -> tuple[tuple[Picture, ...], ...]:
    """Returns the pictures of a trial as they stand on the page.

    One group of one picture for alignment; two groups of one or more else.
    """
    if trial.is_control:
        control = study.controls[int(trial.item) - 1]
        groups = tuple((picture,) for picture in control.pictures)
    else:
        groups = _item(study, trial).pictures
        if trial.system is not None:
            groups = (groups[trial.system],)
    return groups[::-1] if trial.swapped else groups


def shown_prompt(study: Study, trial: Trial) -> str:
    """Returns the caption of a trial."""
    if trial.is_control:
        return study.controls[int(trial.item) - 1].prompt
    return _item(study, trial).prompt


def _item(study: Study, trial: Trial) -> Item:
    return next(item for item in study.items if item.name == trial.item)


def _category(study: Study, rater: int) -> Sequence[Item]:
    """Returns the items that a rater may get."""
    if study.settings.kind != "drawbench":
        return study.items
    categories = sorted({item.category for item in study.items})
    mine = categories[rater % len(categories)]
    return [item for item in study.items if item.category == mine]


def _balanced(num: int, rng: np.random.Generator) -> list[bool]:
    """Returns `num` flags in random order, half of them true (a half one at random)."""
    flags = np.arange(num) % 2 == rng.integers(2)
    return rng.permutation(flags).tolist()


def _interleave(
    trials: list[Trial], controls: list[Trial], rng: np.random.Generator
) -> list[Trial]:
    """Returns both in one list, a control in each of equal parts."""
    total, num = len(trials) + len(controls), len(controls)
    ends = [total * k // num for k in range(num + 1)] if num else []
    places = {int(rng.integers(a, b)) for a, b in itertools.pairwise(ends)}
    rest, left = iter(trials), iter(controls)
    return [next(left) if i in places else next(rest) for i in range(total)]
