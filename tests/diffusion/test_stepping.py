"""The two steps from z_t to z_s, and the loop over a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.process import alpha_sigma, diffuse
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.diffusion.spacing import logsnr_grid
from imagen_jax.diffusion.stepping import ddim_step, ddpm_step, march, move_towards
from imagen_jax.interfaces import Prediction

SHAPE = (2, 2, 2, 3)
X0 = jax.random.uniform(jax.random.key(0), SHAPE, minval=-1.0)
EPS = jax.random.normal(jax.random.key(1), SHAPE)
NOISE = jax.random.normal(jax.random.key(2), SHAPE)
LOW, HIGH = jnp.float32(-1.0), jnp.float32(2.0)
COSINE = make_schedule("cosine", -20.0, 20.0)
STEPS = [ddpm_step, ddim_step]


def known(z, logsnr):
    """The prediction of an oracle that knows the picture."""
    return Prediction(X0, eps_from_x0(z, X0, logsnr))


def test_ddim_eta_0_moves_along_the_predicted_noise():
    z = diffuse(X0, EPS, LOW)
    z_s = ddim_step(z, Prediction(X0, EPS), LOW, HIGH, NOISE, 0.0)
    np.testing.assert_allclose(z_s, diffuse(X0, EPS, HIGH), atol=1e-5)


def test_ddim_eta_0_is_the_papers_form():
    z = jax.random.normal(jax.random.key(3), SHAPE)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(LOW), alpha_sigma(HIGH)
    expected = alpha_s * X0 + sigma_s / sigma_t * (z - alpha_t * X0)
    z_s = ddim_step(z, Prediction(X0, EPS), LOW, HIGH, NOISE, 0.0)
    np.testing.assert_allclose(z_s, expected, atol=1e-6)
    np.testing.assert_array_equal(move_towards(X0, z, LOW, HIGH), z_s)


def test_ddim_eta_0_ignores_the_noise():
    z = diffuse(X0, EPS, LOW)
    steps = [
        ddim_step(z, Prediction(X0, EPS), LOW, HIGH, n, 0.0) for n in (NOISE, 9 * EPS)
    ]
    np.testing.assert_array_equal(*steps)


def test_ddim_eta_1_is_ddpm_gamma_0():
    z = diffuse(X0, EPS, LOW)
    prediction = Prediction(X0, EPS)
    ddim = ddim_step(z, prediction, LOW, HIGH, NOISE, 1.0)
    ddpm = ddpm_step(z, prediction, LOW, HIGH, NOISE, 0.0)
    np.testing.assert_allclose(ddim, ddpm, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("stochasticity", [0.0, 0.6, 1.0])
def test_equal_levels_leave_z(step, stochasticity):
    z = diffuse(X0, EPS, LOW)
    z_s = step(z, known(z, LOW), LOW, LOW, NOISE, stochasticity)
    np.testing.assert_allclose(z_s, z, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_levels_per_picture_equal_one_level_for_all(step):
    z = diffuse(X0, EPS, LOW)
    prediction = Prediction(X0, EPS)
    one = step(z, prediction, LOW, HIGH, NOISE, 0.5)
    each = step(z, prediction, jnp.full(2, LOW), jnp.full(2, HIGH), NOISE, 0.5)
    np.testing.assert_allclose(one, each, atol=1e-6)


def test_march_visits_each_interval_once_and_numbers_the_steps():
    grid = logsnr_grid(COSINE, 3)

    def record(z, memory, at):
        # x0 carries what was seen: each step writes its levels in its own channel.
        seen = z.at[0, 0, 0, at.index].set(at.logsnr_t)
        seen = seen.at[0, 0, 1, at.index].set(at.logsnr_s)
        return seen, seen, memory

    result = march(record, jnp.zeros(SHAPE), (), grid)
    np.testing.assert_allclose(result[0, 0, 0], grid[:3], rtol=1e-6)
    np.testing.assert_allclose(result[0, 0, 1], grid[1:], rtol=1e-6)


def test_march_returns_the_x0_of_the_last_step_and_hands_memory_on():
    grid = logsnr_grid(COSINE, 4)

    def step(z, memory, at):
        return z + 1.0, 100.0 * memory + z, memory + 1.0

    result = march(step, jnp.zeros(SHAPE), jnp.float32(1.0), grid)
    np.testing.assert_array_equal(result, jnp.full(SHAPE, 403.0))
