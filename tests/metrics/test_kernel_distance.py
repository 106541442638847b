import numpy as np
import pytest

from imagen_jax.metrics.kernel_distance import (
    jackknifed_mmd,
    kernel_distance,
    squared_mmd,
)


def rows(seed, count, mean=0.0, width=6):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, width)) + mean).astype(np.float32)


def test_equals_the_sum_over_pairs():
    a, b = rows(0, 5), rows(1, 7, 0.5)

    def k(x, y):
        return (float(np.dot(x.astype(float), y.astype(float))) / 6 + 1) ** 3

    within = [
        np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j])
        for s in (a, b)
    ]
    across = np.mean([k(x, y) for x in a for y in b])
    np.testing.assert_allclose(squared_mmd(a, b), sum(within) - 2 * across, rtol=1e-10)


def test_unbiased_at_small_sizes():
    """0 on average for one distribution, where the biased estimate would be > 0.5."""
    values = [squared_mmd(rows(2 * i, 8), rows(2 * i + 1, 8)) for i in range(400)]
    error = np.std(values) / 20
    assert abs(np.mean(values)) < 4 * error
    assert error < 0.05
    assert min(values) < 0


def test_grows_with_the_distance_of_the_means():
    near, far = (kernel_distance(rows(0, 200), rows(1, 200, m)) for m in (0.2, 1.0))
    assert 0 < near.value < far.value / 4


def test_subsets():
    a, b = rows(0, 300), rows(1, 200, 0.3)
    found = kernel_distance(a, b, num_subsets=50, subset_size=60)
    assert (found.subset_size, found.num_subsets) == (60, 50)
    assert found == kernel_distance(a, b, 50, 60)
    assert found != kernel_distance(a, b, 50, 60, seed=1)
    np.testing.assert_allclose(found.value, squared_mmd(a, b), atol=found.std)
    assert found.std > 0
    whole = kernel_distance(a[:200], b)
    np.testing.assert_allclose(whole.value, squared_mmd(a[:200], b), rtol=1e-6)
    assert whole[1:] == (None, 200, 1)
    assert kernel_distance(a, b[:30], 5).subset_size == 30


def test_refuses_a_single_row():
    with pytest.raises(ValueError, match="5 and 1 rows"):
        kernel_distance(rows(0, 5), rows(1, 1))


def test_the_error_is_the_spread_between_samples():
    rng = np.random.default_rng(1)
    real = rng.normal(0, 1, (200, 4))
    samples = rng.normal(0.5, 1, (150, 64, 4))
    spread = np.std([squared_mmd(sample, real) for sample in samples])
    values, errors = zip(*(jackknifed_mmd(s, real) for s in samples[:30]), strict=True)
    assert values[0] == squared_mmd(samples[0], real)
    assert 0.8 * spread < np.mean(errors) < 1.25 * spread
