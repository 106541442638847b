"""Samplers with the optimal denoiser of Gaussian data return that Gaussian.

For data N(mu, s^2) per pixel, z ~ N(alpha mu, alpha^2 s^2 + sigma^2), and the optimal
eps is E[eps | z] = sigma (z - alpha mu) / (alpha^2 s^2 + sigma^2). No network, no
training: whatever deviates is the sampler, the schedule or a conversion.

That eps is affine in z, and so is every step, so the mean and variance of the samples
can also be followed exactly, without drawing any: see `moments`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.process import alpha_sigma
from imagen_jax.diffusion.samplers import logsnr_grid, sample, sampler_step
from imagen_jax.diffusion.schedule import make_schedule

PIXELS = (2, 2, 1)
MEAN = np.linspace(-0.6, 0.6, 4, dtype=np.float32)
STD = np.float32([0.9, 0.7, 0.5, 0.3])
ZERO, ONE = np.zeros(4, np.float32), np.ones(4, np.float32)
SAMPLERS = [("ddpm", 0.0), ("ddpm", 0.5), ("ddpm", 1.0), ("ddim", 0.0), ("ddim", 1.0)]


def gaussian_predict(mean, std):
    """The exact denoiser, through the same eps conversion a network's output takes."""
    mean, std = jnp.reshape(mean, PIXELS), jnp.reshape(std, PIXELS)

    def predict(z, logsnr, index):
        alpha, sigma = alpha_sigma(logsnr)
        eps = sigma * (z - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return to_prediction("eps", eps, z, logsnr)

    return predict


def draw(mean, std, sampler, stochasticity, num_steps, count):
    """Returns `count` samples under the cosine schedule, flattened to `[count 4]`."""
    grid = logsnr_grid(make_schedule("cosine", -20.0, 20.0), num_steps)
    key = jax.random.key(0)

    def noise_fn(index):
        return jax.random.normal(jax.random.fold_in(key, index), (count, *PIXELS))

    @jax.jit
    def run(stochasticity):
        predict, step = gaussian_predict(mean, std), sampler_step(sampler)
        z_1 = noise_fn(num_steps)
        return sample(predict, z_1, grid, step, noise_fn, stochasticity)

    return np.float64(run(jnp.float32(stochasticity))).reshape(count, 4)


def moments(mean, std, sampler, stochasticity, num_steps, schedule):
    """Returns the exact mean and standard deviation, both `[4]`, of the samples.

    A step is slope z + offset + scale noise per pixel; three evaluations give these.
    """
    grid = logsnr_grid(make_schedule(schedule, -20.0, 20.0), num_steps)
    predict, step = gaussian_predict(mean, std), sampler_step(sampler)
    zero, one = jnp.zeros((1, *PIXELS)), jnp.ones((1, *PIXELS))

    def body(carry, levels):
        def move(z, noise):
            prediction = predict(z, levels[0], 0)
            return step(z, prediction, *levels, noise, stochasticity)

        offset = move(zero, zero)
        slope, scale = move(one, zero) - offset, move(zero, one) - offset
        z_mean, z_var = carry
        return (slope * z_mean + offset, slope**2 * z_var + scale**2), None

    (z_mean, z_var), _ = jax.jit(jax.lax.scan, static_argnums=0)(
        body, (zero, one), (grid[:-2], grid[1:-1])
    )
    offset = predict(zero, grid[-2], 0).x0
    slope = predict(one, grid[-2], 0).x0 - offset
    x0_mean, x0_std = slope * z_mean + offset, jnp.abs(slope) * jnp.sqrt(z_var)
    return np.float64(x0_mean).ravel(), np.float64(x0_std).ravel()


@pytest.mark.parametrize(("sampler", "stochasticity"), SAMPLERS)
def test_samples_have_the_mean_and_covariance_of_the_data(sampler, stochasticity):
    """Within 4.5 standard errors (14 numbers), plus the bias of 128 steps.

    The bias is of first order in the step (see the next test): up to 8 % of a variance.
    """
    count = 4096
    samples = draw(MEAN, STD, sampler, stochasticity, 128, count)
    mean_error = np.abs(samples.mean(0) - MEAN)
    assert np.all(mean_error < 4.5 * STD / np.sqrt(count))
    covariance_error = np.abs(np.cov(samples.T) - np.diag(STD**2))
    statistical = 4.5 * np.sqrt((1 + np.eye(4)) / count) * np.outer(STD, STD)
    assert np.all(covariance_error < statistical + 0.08 * np.diag(STD**2))


@pytest.mark.parametrize("schedule", ["cosine", "cosine_truncated", "linear"])
@pytest.mark.parametrize(("sampler", "stochasticity"), SAMPLERS)
def test_exact_moments_converge_to_the_datas(sampler, stochasticity, schedule):
    """The bias falls with the step, at first order or better.

    The mean's tolerance is what the linear schedule leaves in DDIM: it ends at log-SNR
    -10, where z holds 0.7 % of the picture, and sampling starts from none.
    """
    errors = []
    for num_steps in (128, 1024):
        mean, std = moments(MEAN, STD, sampler, stochasticity, num_steps, schedule)
        np.testing.assert_allclose(mean, MEAN, atol=4e-3)
        errors.append(np.abs(std / STD - 1.0).max())
    assert errors[1] < 0.015
    assert errors[1] < errors[0] / 5  # with 8 times the steps


def test_gamma_0_is_exact_for_a_single_picture_at_any_step_count():
    samples = draw(MEAN, ZERO, "ddpm", 0.0, 3, count=16)
    np.testing.assert_allclose(samples, np.tile(MEAN, (16, 1)), atol=1e-5)


@pytest.mark.parametrize("num_steps", [3, 16])
def test_gamma_1_is_exact_for_standard_normal_data_at_any_step_count(num_steps):
    """Then z_t is N(0, 1) at every t, and q(z_s | z_t) has the variance of gamma 1.

    The last step returns E[x0 | z] = alpha z, so the deviation is alpha of its level.
    """
    grid = logsnr_grid(make_schedule("cosine", -20.0, 20.0), num_steps)
    alpha = float(alpha_sigma(grid[-2])[0])
    std = moments(ZERO, ONE, "ddpm", 1.0, num_steps, "cosine")[1]
    np.testing.assert_allclose(std, alpha, rtol=1e-3)
    small = moments(ZERO, ONE, "ddpm", 0.0, num_steps, "cosine")[1]
    assert np.all(small < 0.95 * alpha)
