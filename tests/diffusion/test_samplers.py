"""Sampler steps, the grid of log-SNRs, and the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.process import alpha_sigma, diffuse
from imagen_jax.diffusion.samplers import (
    ddim_step,
    ddpm_step,
    logsnr_grid,
    sample,
    sampler_step,
)
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.interfaces import Prediction

SHAPE = (2, 2, 2, 3)
X0 = jax.random.uniform(jax.random.key(0), SHAPE, minval=-1.0)
EPS = jax.random.normal(jax.random.key(1), SHAPE)
NOISE = jax.random.normal(jax.random.key(2), SHAPE)
LOW, HIGH = jnp.float32(-1.0), jnp.float32(2.0)
COSINE = make_schedule("cosine", -20.0, 20.0)


def known(z, logsnr, index):
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


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
@pytest.mark.parametrize("stochasticity", [0.0, 0.6, 1.0])
def test_equal_levels_leave_z(kind, stochasticity):
    z = diffuse(X0, EPS, LOW)
    prediction = known(z, LOW, 0)
    z_s = sampler_step(kind)(z, prediction, LOW, LOW, NOISE, stochasticity)
    np.testing.assert_allclose(z_s, z, atol=1e-5)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_levels_per_picture_equal_one_level_for_all(kind):
    z, step = diffuse(X0, EPS, LOW), sampler_step(kind)
    prediction = Prediction(X0, EPS)
    one = step(z, prediction, LOW, HIGH, NOISE, 0.5)
    each = step(z, prediction, jnp.full(2, LOW), jnp.full(2, HIGH), NOISE, 0.5)
    np.testing.assert_allclose(one, each, atol=1e-6)


def test_sampler_step_names_the_choices():
    assert sampler_step("ddpm") is ddpm_step
    assert sampler_step("ddim") is ddim_step
    with pytest.raises(ValueError, match="ddpm, ddim"):
        sampler_step("euler")


def test_grid_is_uniform_in_t_from_noise_to_clean():
    grid = logsnr_grid(COSINE, 4)
    expected = COSINE.logsnr(jnp.array([1.0, 0.75, 0.5, 0.25, 0.0]))
    np.testing.assert_allclose(grid, expected, rtol=1e-5)
    assert np.all(np.diff(grid) > 0)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_sample_returns_the_last_x0_without_noise(kind):
    result = sample(
        known,
        EPS,
        logsnr_grid(COSINE, 5),
        sampler_step(kind),
        lambda i: 100.0 * NOISE,
        1.0,
    )
    np.testing.assert_array_equal(result, X0)


def test_sample_visits_each_level_once_and_numbers_the_steps():
    grid = logsnr_grid(COSINE, 3)

    def record(z, logsnr, index):
        # x0 carries what was seen: each step writes its level in its own channel.
        seen = z.at[..., index].set(logsnr)
        return Prediction(seen, seen)

    def keep(z, prediction, logsnr_t, logsnr_s, noise, stochasticity):
        return prediction.x0

    result = sample(record, jnp.zeros(SHAPE), grid, keep, lambda i: NOISE, 0.0)
    np.testing.assert_allclose(result[0, 0, 0], grid[:3], rtol=1e-6)


def test_each_step_gets_its_own_noise_and_levels():
    grid = logsnr_grid(COSINE, 3)

    def noise_fn(index):
        return jnp.full(SHAPE, 1.0 + index)

    def predict(z, logsnr, index):
        return Prediction(z, z)

    def add(z, prediction, logsnr_t, logsnr_s, noise, stochasticity):
        return z + noise * (logsnr_s - logsnr_t)

    result = sample(predict, jnp.zeros(SHAPE), grid, add, noise_fn, 0.0)
    # noise 1 on the first step and 2 on the second; the third adds nothing
    expected = (grid[1] - grid[0]) + 2.0 * (grid[2] - grid[1])
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_network_is_traced_once():
    traces = []

    def predict(z, logsnr, index):
        traces.append(index)
        return known(z, logsnr, index)

    @jax.jit
    def run(z, stochasticity):
        return sample(
            predict,
            z,
            logsnr_grid(COSINE, 4),
            ddpm_step,
            lambda i: NOISE,
            stochasticity,
        )

    for gamma in (0.0, 0.5, 1.0):
        run(EPS, jnp.float32(gamma))
    assert len(traces) == 1
