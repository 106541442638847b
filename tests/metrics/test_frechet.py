"""Closed forms; pytorch-fid's distance is in tests/features/test_inception.py."""

import numpy as np
import pytest

from imagen_jax.metrics.frechet import frechet_distance, rows_frechet_distance
from imagen_jax.metrics.moments import Gaussian, Moments


def diagonal(mean, deviations):
    return Gaussian(np.array(mean), np.diag(np.square(deviations)), 100)


def test_diagonal_gaussians():
    """|m1 - m2|^2 + sum (s1 - s2)^2."""
    a = diagonal([0.0, 1.0, 2.0], [1.0, 2.0, 0.5])
    b = diagonal([1.0, 1.0, 0.0], [3.0, 1.0, 0.5])
    np.testing.assert_allclose(frechet_distance(a, b), 5 + 4 + 1, rtol=1e-12)


def test_does_not_depend_on_the_axes():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    a = diagonal([0.0, 1.0, 2.0], [1.0, 2.0, 0.5])
    b = diagonal([1.0, 1.0, 0.0], [3.0, 1.0, 0.5])
    turned = [
        Gaussian(turn @ g.mean, turn @ g.covariance @ turn.T, 100) for g in (a, b)
    ]
    np.testing.assert_allclose(frechet_distance(*turned), 10, rtol=1e-12)


def test_covariances_that_do_not_commute():
    """tr (C1 C2)^(1/2) in 2 dimensions is sqrt(tr C1 C2 + 2 sqrt(det C1 C2))."""
    c1, c2 = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[4.0, -1.5], [-1.5, 1.0]])
    a, b = (Gaussian(np.zeros(2), c, 100) for c in (c1, c2))
    root = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1 @ c2)))
    np.testing.assert_allclose(
        frechet_distance(a, b), np.trace(c1 + c2) - 2 * root, rtol=1e-12
    )


def test_symmetric_and_zero_to_itself_even_if_singular():
    rng = np.random.default_rng(1)
    made = []
    for _ in range(2):
        rows = rng.standard_normal((5, 40))
        made.append(Gaussian(rows.mean(axis=0), np.cov(rows, rowvar=False), 5))
    a, b = made
    np.testing.assert_allclose(
        frechet_distance(a, b), frechet_distance(b, a), rtol=1e-7
    )
    assert abs(frechet_distance(a, a)) < 1e-6
    assert frechet_distance(a, b) > 1


def test_refuses_other_widths():
    with pytest.raises(ValueError, match="differ"):
        frechet_distance(diagonal([0.0], [1.0]), diagonal([0.0, 0.0], [1.0, 1.0]))


@pytest.mark.parametrize("count", [5, 40])
def test_few_rows_have_the_frechet_distance_of_their_moments(count):
    rng = np.random.default_rng(2)
    moments, real = Moments(12), Moments(12)
    made = rng.normal(size=(count, 12)) @ rng.normal(size=(12, 12))
    moments.add(made)
    real.add(rng.normal(0.3, 1, (50, 12)))
    wanted = frechet_distance(moments.gaussian(), real.gaussian())
    found = rows_frechet_distance(made, real.gaussian())
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
