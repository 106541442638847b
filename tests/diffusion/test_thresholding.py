"""Thresholding: range, identity in range, per picture, percentile by interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.thresholding import dynamic_threshold, threshold

P = jnp.float32(99.5)


def pictures(seed, scale):
    return scale * jax.random.normal(jax.random.key(seed), (2, 4, 4, 3))


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(0.0, 100.0, width=32),
    percentile=st.floats(50.0, 100.0, width=32),
    kind=st.sampled_from(["static", "dynamic", "capped"]),
)
def test_result_is_in_range(scale, percentile, kind):
    x0 = threshold(kind, pictures(0, scale), jnp.float32(percentile))
    assert x0.dtype == jnp.float32
    assert float(jnp.abs(x0).max()) <= 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), percentile=st.floats(1.0, 100.0, width=32))
def test_pictures_in_range_are_left_alone(seed, percentile):
    x0 = jax.random.uniform(jax.random.key(seed), (2, 4, 4, 3), minval=-1.0)
    for kind in ("none", "static", "dynamic", "capped"):
        after = threshold(kind, x0, jnp.float32(percentile))
        np.testing.assert_array_equal(after, x0)


@pytest.mark.parametrize("percentile", [80.0, 95.0, 99.5, 100.0])
def test_dynamic_is_clip_and_rescale_by_numpys_percentile(percentile):
    x0 = pictures(1, 3.0)
    after = dynamic_threshold(x0, jnp.float32(percentile))
    for before, got in zip(np.asarray(x0, np.float64), after, strict=True):
        s = max(np.percentile(np.abs(before), percentile), 1.0)
        np.testing.assert_allclose(got, np.clip(before, -s, s) / s, atol=1e-5)


def test_static_clips():
    x0 = pictures(2, 3.0)
    np.testing.assert_array_equal(threshold("static", x0, P), np.clip(x0, -1, 1))


def test_none_leaves_values_out_of_range():
    x0 = pictures(2, 3.0)
    np.testing.assert_array_equal(threshold("none", x0, P), x0)


def test_cap_is_traced_and_limits_s():
    x0 = pictures(3, 10.0)
    capped = jax.jit(dynamic_threshold)(x0, P, jnp.float32(1.5))
    np.testing.assert_allclose(capped, np.clip(x0, -1.5, 1.5) / 1.5, rtol=1e-6)


def test_capped_is_dynamic_up_to_the_cap():
    x0 = jnp.concatenate([pictures(4, 0.9), pictures(5, 8.0)])  # s 2.3 and 20
    capped = threshold("capped", x0, P, jnp.float32(4.0))
    dynamic = threshold("dynamic", x0, P)
    np.testing.assert_array_equal(capped[:2], dynamic[:2])
    np.testing.assert_allclose(capped[2:], np.clip(x0[2:] / 4, -1, 1), rtol=1e-6)


def test_changing_the_percentile_does_not_retrace():
    traces = []

    @jax.jit
    def run(percentile):
        traces.append(percentile)
        return dynamic_threshold(pictures(3, 2.0), percentile)

    for percentile in (95.0, 99.5, 100.0):
        run(jnp.float32(percentile))
    assert len(traces) == 1


def test_unknown_kind_names_the_choices():
    with pytest.raises(ValueError, match="none, static, dynamic, capped"):
        threshold("soft", pictures(0, 1.0), P)
