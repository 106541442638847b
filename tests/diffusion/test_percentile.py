"""The percentile by counting equals `jnp.percentile`, to the last bit or one beside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.percentile import percentile

SHAPE = (3, 4, 5, 3)
count = jax.jit(percentile)


@jax.jit
def sort(magnitude, percent):
    return jnp.percentile(magnitude, percent, axis=(1, 2, 3), keepdims=True)


def assert_equal_to_one_ulp(magnitude, percent):
    magnitude, percent = jnp.asarray(magnitude, jnp.float32), jnp.float32(percent)
    found, wanted = count(magnitude, percent), sort(magnitude, percent)
    assert found.shape == wanted.shape
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    np.testing.assert_array_max_ulp(found[finite], wanted[finite], maxulp=1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 50.0, 1e30]),
    levels=st.sampled_from([0, 2, 5]),
    percent=st.floats(0.0, 100.0, width=32),
)
def test_any_numbers(seed, scale, levels, percent):
    """With `levels` many numbers are equal, 0 among them."""
    magnitude = np.abs(np.random.default_rng(seed).standard_normal(SHAPE))
    if levels:
        magnitude = np.floor(magnitude * levels)
    assert_equal_to_one_ulp(scale * magnitude, percent)


@pytest.mark.parametrize("percent", [0.0, 50.0, 99.5, 100.0])
@pytest.mark.parametrize("strange", [np.inf, np.nan])
def test_infinities_and_nan(strange, percent):
    """A picture that has diverged is NaN, the others are not touched."""
    magnitude = np.abs(np.random.default_rng(0).standard_normal(SHAPE))
    magnitude[1, 0, :2] = strange
    assert_equal_to_one_ulp(magnitude, percent)
    result = np.asarray(count(jnp.float32(magnitude), jnp.float32(percent)))
    assert np.all(np.isfinite(result[[0, 2]]))


@pytest.mark.parametrize("rank", [0, 1, 30, 58, 59])
def test_a_whole_rank_is_that_number(rank):
    """Of 60 numbers in shuffled order, without interpolation."""
    numbers = np.random.default_rng(1).permutation(60).reshape(1, 4, 5, 3)
    percent = jnp.float32(100.0 * rank / 59)
    result = count(jnp.asarray(numbers, jnp.float32), percent)
    assert float(result.ravel()[0]) == pytest.approx(rank, abs=1e-4)


def test_pictures_of_256_pixels():
    magnitude = np.abs(np.random.default_rng(2).standard_normal((1, 256, 256, 3)))
    for percent in (90.0, 99.5, 99.99):
        assert_equal_to_one_ulp(magnitude, percent)


def test_it_does_not_sort():
    arguments = (jnp.ones(SHAPE), jnp.float32(99.5))
    assert "sort" in sort.lower(*arguments).as_text()
    assert "sort" not in count.lower(*arguments).as_text()
