"""Samplers with the optimal denoiser of Gaussian data return that Gaussian.

For data N(mu, s^2) per pixel, z ~ N(alpha mu, alpha^2 s^2 + sigma^2), and the optimal
eps is E[eps | z] = sigma (z - alpha mu) / (alpha^2 s^2 + sigma^2). No network, no
training: whatever deviates is the sampler, the schedule or a conversion.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.process import alpha_sigma
from imagen_jax.diffusion.samplers import logsnr_grid, sample, sampler_step
from imagen_jax.diffusion.schedule import make_schedule

PIXELS = (2, 2, 3)
DIM = 12
COUNT = 8192
MEAN = np.linspace(-0.6, 0.6, DIM, dtype=np.float32)
STD = np.linspace(0.1, 0.9, DIM, dtype=np.float32)[::-1].copy()


def gaussian_predict(mean, std):
    """The exact denoiser, through the same eps conversion a network's output takes."""
    mean, std = jnp.reshape(mean, PIXELS), jnp.reshape(std, PIXELS)

    def predict(z, logsnr, index):
        alpha, sigma = alpha_sigma(logsnr)
        eps = sigma * (z - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return to_prediction("eps", eps, z, logsnr)

    return predict


def draw(mean, std, sampler, stochasticity, num_steps, schedule="cosine", count=COUNT):
    """Returns `count` samples, flattened to `[count DIM]`."""
    grid = logsnr_grid(make_schedule(schedule, -20.0, 20.0), num_steps)
    key = jax.random.key(0)

    def noise_fn(index):
        return jax.random.normal(jax.random.fold_in(key, index), (count, *PIXELS))

    @jax.jit
    def run(gamma):
        return sample(
            gaussian_predict(mean, std),
            noise_fn(num_steps),
            grid,
            sampler_step(sampler),
            noise_fn,
            gamma,
        )

    return np.float64(run(jnp.float32(stochasticity))).reshape(count, DIM)


@pytest.mark.parametrize("schedule", ["cosine", "cosine_truncated", "linear"])
@pytest.mark.parametrize(
    ("sampler", "stochasticity"),
    [("ddpm", 0.0), ("ddpm", 1.0), ("ddim", 0.0), ("ddim", 1.0)],
)
def test_mean_and_covariance_are_the_datas(sampler, stochasticity, schedule):
    samples = draw(MEAN, STD, sampler, stochasticity, 256, schedule)
    # 4.5 standard errors (12 + 78 numbers are compared) plus the bias of 256 steps:
    # up to 3 % of a variance, as 0.03 s_i s_j.
    mean_error = np.abs(samples.mean(0) - MEAN)
    assert np.all(mean_error < 4.5 * STD / np.sqrt(COUNT) + 0.002)
    covariance_error = np.abs(np.cov(samples.T) - np.diag(STD**2))
    tolerance = (4.5 * np.sqrt(2 / COUNT) + 0.03) * np.outer(STD, STD)
    assert np.all(covariance_error < tolerance)


def test_gamma_0_is_exact_for_a_single_picture_at_any_step_count():
    samples = draw(MEAN, np.zeros(DIM, np.float32), "ddpm", 0.0, 3, count=16)
    np.testing.assert_allclose(samples, np.tile(MEAN, (16, 1)), atol=1e-5)


@pytest.mark.parametrize("num_steps", [4, 16])
def test_gamma_1_keeps_unit_variance_at_any_step_count(num_steps):
    """With x0 ~ N(0, 1), z_t is N(0, 1) at every t, and q(z_s | z_t) has gamma 1's std.

    The last step returns E[x0 | z] = alpha z, hence variance alpha^2 of its level.
    """
    zero, one = np.zeros(DIM, np.float32), np.ones(DIM, np.float32)
    schedule = make_schedule("cosine", -20.0, 20.0)
    last = jax.nn.sigmoid(logsnr_grid(schedule, num_steps)[-2])
    for gamma, low, high in ((1.0, 0.97, 1.03), (0.0, 0.0, 0.92)):
        samples = draw(zero, one, "ddpm", gamma, num_steps)
        share = samples.var() / float(last)
        # 98,304 numbers: a standard error of 0.0045
        assert low < share < high


def test_ddim_is_a_deterministic_map_that_keeps_the_order():
    samples = draw(MEAN, STD, "ddim", 0.0, 64, count=64)
    again = draw(MEAN, STD, "ddim", 0.0, 64, count=64)
    np.testing.assert_array_equal(samples, again)
    # per pixel the probability flow of a Gaussian is affine in z_1, with slope > 0
    key = jax.random.fold_in(jax.random.key(0), 64)
    z_1 = np.float64(jax.random.normal(key, (64, *PIXELS))).reshape(64, DIM)
    slopes = (samples - MEAN) / STD / z_1
    np.testing.assert_allclose(slopes, np.median(slopes), rtol=0.1)
    assert np.median(slopes) == pytest.approx(1.0, abs=0.05)
