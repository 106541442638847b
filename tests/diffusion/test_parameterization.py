"""eps, v and x0 describe one prediction: round trips between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.parameterization import (
    PREDICTIONS,
    eps_from_x0,
    target,
    to_prediction,
)
from imagen_jax.diffusion.process import diffuse

X0 = jax.random.uniform(jax.random.key(0), (2, 2, 2, 3), minval=-1.0)
EPS = jax.random.normal(jax.random.key(1), X0.shape)


# A division by alpha or sigma multiplies float32's rounding: by e^5 = 150 at |10|.
@pytest.mark.parametrize("kind", PREDICTIONS)
@settings(max_examples=30, deadline=None)
@given(logsnr=st.floats(-10, 10, width=32))
def test_perfect_output_gives_x0_and_eps_back(kind, logsnr):
    logsnr = jnp.array([logsnr, 0.5], jnp.float32)
    output = target(kind, X0, EPS, logsnr)
    prediction = to_prediction(kind, output, diffuse(X0, EPS, logsnr), logsnr)
    np.testing.assert_allclose(prediction.x0, X0, atol=1e-4)
    np.testing.assert_allclose(prediction.eps, EPS, atol=1e-4)


@pytest.mark.parametrize("kind", PREDICTIONS)
@settings(max_examples=30, deadline=None)
@given(logsnr=st.floats(-10, 10, width=32))
def test_any_output_gives_a_consistent_pair(kind, logsnr):
    logsnr = jnp.float32(logsnr)
    z, output = diffuse(X0, EPS, logsnr), EPS[::-1]
    prediction = to_prediction(kind, output, z, logsnr)
    np.testing.assert_allclose(diffuse(*prediction, logsnr), z, atol=1e-4)
    # and the network's own quantity comes back from that pair
    again = target(kind, *prediction, logsnr)
    np.testing.assert_allclose(again, output, rtol=1e-3, atol=1e-3)


def test_v_is_alpha_eps_minus_sigma_x0():
    v = target("v", X0, EPS, jnp.float32(2.0))
    expected = np.sqrt(0.880797) * EPS - np.sqrt(0.119203) * X0
    np.testing.assert_allclose(v, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("end", [-20.0, 20.0])
def test_v_is_well_conditioned_at_both_ends(end):
    logsnr = jnp.float32(end)
    output = target("v", X0, EPS, logsnr)
    prediction = to_prediction("v", output, diffuse(X0, EPS, logsnr), logsnr)
    np.testing.assert_allclose(prediction.x0, X0, atol=1e-6)
    np.testing.assert_allclose(prediction.eps, EPS, atol=1e-6)


def test_eps_of_an_edited_x0_keeps_z():
    logsnr = jnp.array([-1.0, 1.0])
    z, edited = diffuse(X0, EPS, logsnr), X0 * 0.5
    np.testing.assert_allclose(
        diffuse(edited, eps_from_x0(z, edited, logsnr), logsnr), z, atol=1e-6
    )


def test_unknown_kind_names_the_choices():
    with pytest.raises(ValueError, match="eps, v, x0"):
        target("score", X0, EPS, jnp.float32(0.0))
    with pytest.raises(ValueError, match="eps, v, x0"):
        to_prediction("score", EPS, X0, jnp.float32(0.0))
