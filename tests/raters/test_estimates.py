"""Intervals cover the truth in simulated studies; agreement equals a worked example."""

import numpy as np
import pytest

from imagen_jax.raters.estimates import Ratings, estimate_mean, krippendorff_alpha

NUM_RATERS, NUM_PAIRS, TRUTH, NUM_STUDIES = 20, 40, 0.70, 100


def make_ratings(value, rater=None, item=None, stratum=None) -> Ratings:
    """Ratings from a table, raters down and items across; NaN is a missing one."""
    value = np.asarray(value, float)
    if rater is None:
        rater, item = np.indices(value.shape)
        there = ~np.isnan(value)
        rater, item, value = rater[there], item[there], value[there]
    if stratum is None:
        stratum = np.zeros(len(value), int)
    return Ratings(np.asarray(rater), np.asarray(item), np.asarray(stratum), value)


def simulate(rng, spread: float) -> Ratings:
    """One study whose expected preference is `TRUTH`.

    Args:
      rng: of the study.
      spread: how far pairs differ (0: not at all), and raters by half as much.
    """
    pairs = rng.choice([-spread, spread], NUM_PAIRS)
    raters = rng.choice([-spread / 2, spread / 2], NUM_RATERS)
    chance = TRUTH + raters[:, None] + pairs[None, :]
    assert 0 <= chance.min() <= chance.max() <= 1
    return make_ratings(rng.random(chance.shape) < chance)


def count_covered(spread: float, interval) -> tuple[int, float]:
    """Returns how many of the studies' intervals hold the truth, and the mean width."""
    ends = np.array(
        [
            interval(simulate(np.random.default_rng([7, study]), spread))
            for study in range(NUM_STUDIES)
        ]
    )
    covered = (ends[:, 0] <= TRUTH) & (TRUTH <= ends[:, 1])
    return int(covered.sum()), float((ends[:, 1] - ends[:, 0]).mean())


def bootstrapped(ratings: Ratings) -> tuple[float, float]:
    estimate = estimate_mean(ratings, num_replicates=500)
    assert estimate is not None
    return estimate.low, estimate.high


def binomial(ratings: Ratings) -> tuple[float, float]:
    """The interval that takes all ratings for independent."""
    mean = ratings.value.mean()
    half = 1.96 * np.sqrt(mean * (1 - mean) / len(ratings.value))
    return mean - half, mean + half


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.2])
def test_interval_covers_the_true_preference_in_90_of_100_studies(spread):
    covered, width = count_covered(spread, bootstrapped)
    assert covered >= 90
    # Not by being wide: at most sqrt(3) times the width that theory asks for.
    of_one = (TRUTH * (1 - TRUTH) - 1.25 * spread**2) / (NUM_PAIRS * NUM_RATERS)
    theory = np.sqrt(of_one + spread**2 / NUM_PAIRS + spread**2 / 4 / NUM_RATERS)
    assert width < 2 * 1.96 * theory * np.sqrt(3) * 1.05


def test_an_interval_of_independent_ratings_would_not():
    assert count_covered(0.2, binomial)[0] < 80


def test_the_mean_counts_every_rating_once_and_the_seed_decides():
    ratings = make_ratings([[1, 0, np.nan], [1, 1, 1], [0, 1, 0]])
    first = estimate_mean(ratings, seed=1)
    assert first.mean == 5 / 8
    assert first[3:] == (8, 3, 3)
    many = simulate(np.random.default_rng(0), 0.1)
    first = estimate_mean(many, seed=1)
    assert first == estimate_mean(many, seed=1)
    assert first != estimate_mean(many, seed=2)
    assert first.half_width == (first.high - first.low) / 2
    assert estimate_mean(make_ratings(np.full((3, 4), 50.0)))[:3] == (50.0, 50.0, 50.0)
    assert estimate_mean(make_ratings(np.empty((0, 0)))) is None


def test_strata_are_not_drawn_against_each_other():
    """Two categories with one answer each differ for certain: no luck, no width."""
    stratum, rater, item = (ids.ravel() for ids in np.indices((2, 5, 10)))
    value = stratum.astype(float)
    fixed = estimate_mean(make_ratings(value, rater, item, stratum))
    assert fixed.low == fixed.mean == fixed.high == 0.5
    assert (fixed.num_raters, fixed.num_items) == (10, 20)
    drawn = estimate_mean(make_ratings(value, rater, item + 10 * stratum))
    assert drawn.high - drawn.low > 0.1


# Four observers, twelve units: Krippendorff, "Computing Krippendorff's
# Alpha-Reliability" (2011), which gives 0.743 (nominal) and 0.849 (interval).
NAN = np.nan
OBSERVED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_agreement_is_that_of_the_worked_example(metric, alpha):
    found = krippendorff_alpha(make_ratings(OBSERVED), metric)
    assert found == pytest.approx(alpha, abs=5e-4)


def test_agreement_at_its_ends():
    rng = np.random.default_rng(0)
    items = rng.random(200) < 0.5
    same = make_ratings(np.tile(items, (3, 1)))
    assert krippendorff_alpha(same, "nominal") == 1.0
    noise = make_ratings(rng.random((20, 200)) < 0.5)
    assert abs(krippendorff_alpha(noise, "nominal")) < 0.05
    assert krippendorff_alpha(make_ratings([[1, 0, 1]]), "nominal") is None
    assert krippendorff_alpha(make_ratings([[1, 1], [1, 1]]), "nominal") == 1.0
