import numpy as np
import pytest
from scipy import stats

from imagen_jax.evaluation.intervals import mean_interval, share_interval


@pytest.mark.parametrize(("right", "total"), [(0, 10), (180, 240), (240, 240), (1, 1)])
def test_share_interval_is_wilsons(right, total):
    expected = stats.binomtest(right, total).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(share_interval(right, total), expected, atol=1e-12)


def test_interval_of_the_issue():
    """Of 240 pictures, 75 % has an interval of about 5.5 points to either side."""
    low, high = share_interval(180, 240)
    assert (high - low) / 2 == pytest.approx(0.055, abs=0.001)


def test_mean_interval_is_students():
    values = np.random.default_rng(0).normal(size=7)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(values), expected)


def test_what_has_no_interval():
    with pytest.raises(ValueError, match="3 of 2"):
        share_interval(3, 2)
    with pytest.raises(ValueError, match="0 of 0"):
        share_interval(0, 0)
    with pytest.raises(ValueError, match="1 values"):
        mean_interval(np.ones(1))
