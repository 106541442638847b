"""Means of ratings with 95 % intervals, and how well raters agree.

Ratings share raters and prompts, so they are not independent: a hard prompt moves all
its ratings, a lenient rater moves all of theirs. The bootstrap here draws raters and
prompts, each with replacement, and counts a rating as often as its rater was drawn
times as often as its prompt was (the pigeonhole bootstrap: A. B. Owen, Annals of
Applied Statistics 1, 2007). It errs on the safe side: what is luck of the single rating
counts up to three times, so intervals are up to sqrt(3) too wide where raters and
prompts do not differ at all. Strata (DrawBench's categories) are fixed: each is drawn
by itself.

Agreement is Krippendorff's alpha (Content Analysis, chapter 11): 1 - observed /
expected disagreement; 1 is perfect, 0 is chance. It allows missing ratings.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NUM_REPLICATES = 2000


class Ratings(NamedTuple):
    """Ratings of one question; four arrays of one length.

    Attributes:
      rater: int `[n]`, any ids.
      item: int `[n]`, any ids.
      stratum: int `[n]`, any ids; an item or rater in two strata counts as two.
      value: float `[n]`.
    """

    rater: np.ndarray
    item: np.ndarray
    stratum: np.ndarray
    value: np.ndarray


class Estimate(NamedTuple):
    """A mean and its interval, in the unit of the ratings.

    Attributes:
      mean: over all ratings, each counted once.
      low: lower end of the interval.
      high: upper end.
      num_ratings: how many ratings.
      num_raters: by how many raters.
      num_items: of how many pairs.
    """

    mean: float
    low: float
    high: float
    num_ratings: int
    num_raters: int
    num_items: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width, what is printed after +-."""
        return (self.high - self.low) / 2


def estimate_mean(
    ratings: Ratings,
    seed: int = 0,
    num_replicates: int = NUM_REPLICATES,
    confidence: float = 0.95,
) -> Estimate | None:
    """Returns the mean and its percentile interval; None without ratings.

    Args:
      ratings: of one question.
      seed: of the bootstrap.
      num_replicates: bootstrap samples.
      confidence: in (0, 1).

    Source: arXiv:2205.11487, figure 3: "95 % confidence intervals", over raters and
    categories; the kind of interval is not said.
    """
    if not len(ratings.value):
        return None
    rng = np.random.default_rng([seed, 3])
    total, weight = np.zeros(num_replicates), np.zeros(num_replicates)
    for stratum in np.unique(ratings.stratum):
        inside = ratings.stratum == stratum
        sums, counts = _by_rater_and_item(ratings, inside)
        raters = _draw(counts.shape[0], num_replicates, rng)
        items = _draw(counts.shape[1], num_replicates, rng)
        total += ((raters @ sums) * items).sum(1)
        weight += ((raters @ counts) * items).sum(1)
    means = total[weight > 0] / weight[weight > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(
        float(ratings.value.mean()),
        float(low),
        float(high),
        len(ratings.value),
        _num_distinct(ratings.rater, ratings.stratum),
        _num_distinct(ratings.item, ratings.stratum),
    )


def krippendorff_alpha(ratings: Ratings, metric: str) -> float | None:
    """Returns the raters' agreement; None if no item has two ratings.

    Args:
      ratings: of one question; the strata are not used.
      metric: "nominal" (equal or not) or "interval" (squared difference).

    Returns:
      At most 1. 1 also if all ratings are equal, where chance cannot be told.
    """
    levels, level = np.unique(ratings.value, return_inverse=True)
    items, item = np.unique(ratings.item, return_inverse=True)
    counts = np.zeros((len(items), len(levels)))
    np.add.at(counts, (item, level), 1)
    counts = counts[counts.sum(1) >= 2]
    if not len(counts):
        return None
    per_item = counts.sum(1)
    # Pairs of ratings of one item, an item with m ratings weighing m in all.
    pairs = (counts / (per_item - 1)[:, None]).T @ counts
    pairs -= np.diag((counts / (per_item - 1)[:, None]).sum(0))
    totals = counts.sum(0)
    expected = np.outer(totals, totals) - np.diag(totals)
    if metric == "nominal":
        distance = 1.0 - np.eye(len(levels))
    else:
        distance = (levels[:, None] - levels[None, :]) ** 2
    chance = (expected * distance).sum() / (totals.sum() - 1)
    if chance == 0:
        return 1.0
    return float(1 - (pairs * distance).sum() / chance)


def _by_rater_and_item(
    ratings: Ratings, inside: np.ndarray
) -> tuple[Float[np.ndarray, "raters items"], Float[np.ndarray, "raters items"]]:
    """Returns the sum of the values, and their number, in each cell."""
    raters, rater = np.unique(ratings.rater[inside], return_inverse=True)
    items, item = np.unique(ratings.item[inside], return_inverse=True)
    sums, counts = np.zeros((2, len(raters), len(items)))
    np.add.at(sums, (rater, item), ratings.value[inside])
    np.add.at(counts, (rater, item), 1)
    return sums, counts


def _draw(num: int, times: int, rng: np.random.Generator) -> Int[np.ndarray, "b n"]:
    """Returns how often each of `num` was drawn in `times` draws of `num`."""
    return rng.multinomial(num, np.full(num, 1 / num), size=times)


def _num_distinct(ids: np.ndarray, strata: np.ndarray) -> int:
    return len(set(zip(ids.tolist(), strata.tolist(), strict=True)))
