import numpy as np
import pytest

from imagen_jax.metrics.moments import Moments


def accumulate(rows, *cuts):
    moments = Moments(rows.shape[1])
    for part in np.split(rows, cuts):
        moments.add(part)
    return moments


@pytest.mark.parametrize("cuts", [(), (1,), (3, 3, 90), tuple(range(1, 100))])
def test_equals_numpy_however_the_rows_come(cuts):
    rows = np.random.default_rng(0).standard_normal((100, 7)) + 5
    found = accumulate(rows, *cuts).gaussian()
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        found.covariance, np.cov(rows, rowvar=False), rtol=0, atol=1e-12
    )
    assert found.count == 100


def test_a_large_offset_takes_no_digits():
    """The sum of squares in float64 would lose 12 of the 16 digits here."""
    rows = np.random.default_rng(0).standard_normal((500, 3))
    found = accumulate(rows + 1e6, 100, 300).gaussian()
    np.testing.assert_allclose(found.covariance, np.cov(rows.T), rtol=0, atol=1e-8)


def test_float32_rows_are_summed_in_float64():
    rows = np.full((4, 1), 16777216, np.float32) + np.float32([[0], [2], [4], [6]])
    found = accumulate(rows, 1, 2).gaussian()
    assert found.mean == 16777219
    assert found.mean.dtype == found.covariance.dtype == np.float64


def test_parts_merge():
    rows = np.random.default_rng(0).standard_normal((90, 4))
    whole = accumulate(rows).gaussian()
    merged = accumulate(rows[:20])
    merged.merge(accumulate(rows[20:]))
    merged.merge(Moments(4))
    np.testing.assert_allclose(
        merged.gaussian().covariance, whole.covariance, rtol=0, atol=1e-13
    )
    assert merged.count == 90


def test_refuses_what_has_no_covariance():
    with pytest.raises(ValueError, match="1 rows"):
        accumulate(np.ones((1, 3))).gaussian()
    with pytest.raises(ValueError, match="not finite"):
        accumulate(np.array([[1.0, np.nan]]))
