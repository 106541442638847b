"""What each stage loses, with intervals, and the sentence that names the worst.

A loss in a distance is a paired mean over the captions with Student's interval. A loss
in shares is a difference of two shares, each with Wilson's interval; where all pictures
agree, a paired mean's interval would have no width, however few the pictures.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from imagen_jax.evaluation.diagnosis import (
    GENERATED,
    OBJECT,
    SPECTRUM,
    TRUE,
    TRUTH,
    Row,
    Values,
)
from imagen_jax.evaluation.intervals import mean_interval, share_interval

SHARES = (OBJECT, "ground_accuracy")

Estimate = dict[str, float]  # mean, low, high


def losses(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns what each stage loses by itself and by its input; more is worse.

    A dict for each stage: stage, figure, own, own_swapped and inherited, each of the
    last three None where it does not exist, else {"mean", "low", "high"}.
    """
    figure = OBJECT if OBJECT in rows[0].values else SPECTRUM
    result = []
    for stage in dict.fromkeys(row.stage for row in rows):
        paths = {(r.checkpoint, r.feed): r.values for r in rows if r.stage == stage}
        clean = "text" if ("own", "text") in paths else TRUE
        given = paths["none", TRUTH], paths["own", clean]
        swapped = paths.get(("swapped", clean))
        generated = paths.get(("own", GENERATED))
        result.append(
            {
                "stage": stage,
                "figure": figure,
                "own": loss_between(figure, *given),
                "own_swapped": swapped and loss_between(figure, given[0], swapped),
                "inherited": generated and loss_between(figure, given[1], generated),
            }
        )
    return result


def estimate(figure: str, values: Float[np.ndarray, " b"]) -> Estimate:
    """Returns a figure's mean over the pictures with its 95 % interval.

    Args:
      figure: its name; of a share, values are 0 or 100.
      values: of each picture, at least 2.
    """
    if figure in SHARES:
        num = int(np.count_nonzero(values))
        low, high = (100.0 * end for end in share_interval(num, len(values)))
    else:
        low, high = mean_interval(values)
    return _rounded(float(values.mean()), low, high)


def loss_between(figure: str, better: Values, worse: Values) -> Estimate:
    """Returns how much `worse` has lost against `better`, with its 95 % interval."""
    if figure in SHARES:
        one, other = better[figure], worse[figure]
        return difference(estimate(figure, one), estimate(figure, other))
    # A distance: less of it is better.
    return estimate(figure, worse[figure] - better[figure])


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Returns one - other with an interval from both of theirs.

    It is wider than needed where both are of the same pictures, and, other than a
    paired mean's, never of no width where all pictures agree.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998), 873, method 10.
    """
    mean = one["mean"] - other["mean"]
    below = math.hypot(one["mean"] - one["low"], other["high"] - other["mean"])
    above = math.hypot(one["high"] - one["mean"], other["mean"] - other["low"])
    return _rounded(mean, mean - below, mean + above)


def verdict(rows: Sequence[Row]) -> str:
    """Returns one sentence: the stage that loses most by itself, and by how much."""
    by_stage = {loss["stage"]: loss for loss in losses(rows)}
    order = sorted(by_stage, key=lambda name: -by_stage[name]["own"]["mean"])
    first = by_stage[order[0]]
    unit = {OBJECT: "points of object accuracy", SPECTRUM: "dB of the spectrum"}
    words = {name: _words(loss["own"]) for name, loss in by_stage.items()}
    told = "; ".join(f"{name} {words[name]}" for name in order)
    what = f"{unit[first['figure']]}, by stage: {told}"
    if first["own"]["low"] <= 0.0:
        return f"No stage loses more than its interval ({what})."
    if len(order) > 1:
        apart = difference(first["own"], by_stage[order[1]]["own"])
        if apart["low"] <= 0.0:
            return (
                f"Whether {order[0]} or {order[1]} loses most is not decided: their "
                f"difference {_words(apart)} lies inside its interval ({what})."
            )
    return f"{order[0]} loses most: {words[order[0]]} {what}."


def _rounded(mean: float, low: float, high: float) -> Estimate:
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def _words(loss: Estimate) -> str:
    return f"{loss['mean']:.2f} ({loss['low']:.2f} to {loss['high']:.2f})"
