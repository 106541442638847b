"""Samplers with the optimal denoiser of Gaussian data return that Gaussian.

For data N(mu, s^2) per pixel, z ~ N(alpha mu, alpha^2 s^2 + sigma^2), and the optimal
eps is E[eps | z] = sigma (z - alpha mu) / (alpha^2 s^2 + sigma^2). No network, no
training: whatever deviates is the sampler, the schedule or a conversion.

That eps is affine in z, and so is every sampler in its noises, so the mean and variance
of the samples can also be followed exactly, without drawing any: see `moments`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.process import alpha_sigma
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.diffusion.spacing import logsnr_grid

PIXELS = (2, 2, 1)
MEAN = np.linspace(-0.6, 0.6, 4, dtype=np.float32)
STD = np.float32([0.9, 0.7, 0.5, 0.3])
ZERO, ONE = np.zeros(4, np.float32), np.ones(4, np.float32)
FIRST_ORDER = [("ddpm", 0.0), ("ddpm", 0.5), ("ddpm", 1.0), ("ddim", 0.0)]
FIRST_ORDER += [("ddim", 1.0)]
SECOND_ORDER = [("dpmpp_2m", 0.0), ("dpmpp_2m", 1.0), ("unipc", 0.0), ("heun", 0.0)]


def gaussian_predict(mean, std):
    """The exact denoiser, through the same eps conversion a network's output takes."""
    mean, std = jnp.reshape(mean, PIXELS), jnp.reshape(std, PIXELS)

    def predict(z, logsnr, index):
        alpha, sigma = alpha_sigma(logsnr)
        eps = sigma * (z - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return to_prediction("eps", eps, z, logsnr)

    return predict


def grid_of(schedule, num_steps, spacing="uniform_t"):
    return logsnr_grid(make_schedule(schedule, -20.0, 20.0), num_steps, spacing)


@functools.partial(jax.jit, static_argnames="sampler")
def run(sampler, mean, std, z_1, noises, grid, stochasticity):
    """Returns the pictures that a sampler draws; `noises[i]` is step i's noise."""
    predict = gaussian_predict(mean, std)
    noise_fn = noises.__getitem__
    return sample_fn(sampler)(predict, z_1, grid, noise_fn, stochasticity)


def draw(mean, std, sampler, stochasticity, num_steps, count):
    """Returns `count` samples under the cosine schedule, flattened to `[count 4]`."""
    shape = (num_steps + 1, count, *PIXELS)
    noises = jax.random.normal(jax.random.key(0), shape)
    grid, stochasticity = grid_of("cosine", num_steps), jnp.float32(stochasticity)
    samples = run(sampler, mean, std, noises[-1], noises, grid, stochasticity)
    return np.float64(samples).reshape(count, 4)


def moments(mean, std, sampler, stochasticity, grid):
    """Returns the exact mean and standard deviation, both `[4]`, of the samples.

    A sample is an offset plus a multiple of z_1 and of each step's noise. One batch
    finds them all: a picture without any noise, and one for each noise alone.
    """
    each = jnp.eye(len(grid) + 1)[:, :, None, None, None] * jnp.ones(PIXELS)
    stochasticity = jnp.float32(stochasticity)
    ends = run(sampler, mean, std, each[1], each[2:], grid, stochasticity)
    ends = np.float64(ends).reshape(-1, 4)
    return ends[0], np.sqrt(np.square(ends[1:] - ends[0]).sum(0))


@pytest.mark.parametrize(
    ("sampler", "stochasticity"), [*FIRST_ORDER, *SECOND_ORDER, ("heun", 0.3)]
)
def test_samples_have_the_mean_and_covariance_of_the_data(sampler, stochasticity):
    """Within 4.5 standard errors (14 numbers), plus the bias of 128 steps.

    The bias is at most of first order in the step (see below): up to 8 % of a variance.
    """
    count = 4096
    samples = draw(MEAN, STD, sampler, stochasticity, 128, count)
    mean_error = np.abs(samples.mean(0) - MEAN)
    assert np.all(mean_error < 4.5 * STD / np.sqrt(count))
    covariance_error = np.abs(np.cov(samples.T) - np.diag(STD**2))
    statistical = 4.5 * np.sqrt((1 + np.eye(4)) / count) * np.outer(STD, STD)
    assert np.all(covariance_error < statistical + 0.08 * np.diag(STD**2))


@pytest.mark.parametrize("schedule", ["cosine", "cosine_truncated", "linear"])
@pytest.mark.parametrize(("sampler", "stochasticity"), FIRST_ORDER)
def test_exact_moments_converge_to_the_datas(sampler, stochasticity, schedule):
    """The bias falls with the step, at first order or better.

    The mean's tolerance is what the linear schedule leaves in DDIM: it ends at log-SNR
    -10, where z holds 0.7 % of the picture, and sampling starts from none.
    """
    errors = []
    for num_steps in (128, 1024):
        grid = grid_of(schedule, num_steps)
        mean, std = moments(MEAN, STD, sampler, stochasticity, grid)
        np.testing.assert_allclose(mean, MEAN, atol=4e-3)
        errors.append(np.abs(std / STD - 1.0).max())
    assert errors[1] < 0.015
    assert errors[1] < errors[0] / 5  # with 8 times the steps


@pytest.mark.parametrize("spacing", ["uniform_t", "uniform_logsnr", "karras"])
@pytest.mark.parametrize(("sampler", "stochasticity"), SECOND_ORDER)
def test_second_order_is_close_within_few_steps(sampler, stochasticity, spacing):
    """In 32 steps, where DDIM and DDPM are off by more than twice as much."""
    grid = grid_of("cosine", 32, spacing)

    def error(sampler, stochasticity):
        mean, std = moments(MEAN, STD, sampler, stochasticity, grid)
        return max(np.abs(mean - MEAN).max(), np.abs(std / STD - 1.0).max())

    found = error(sampler, stochasticity)
    first_order = error("ddpm" if stochasticity else "ddim", 0.0)
    assert found < 0.04
    assert found < first_order / 2


def order_of(sampler):
    """Returns the measured order of a deterministic sampler.

    The grid runs from log-SNR -6 to 6 in n steps and ends there, so that the result is
    x0 at 6 and its error that of z, to be compared with the exact solution: in every
    pixel (z - alpha mu) / sqrt(alpha^2 s^2 + sigma^2) stays as it is.
    """
    z_1 = jax.random.normal(jax.random.key(1), (16, *PIXELS))
    mean, std = MEAN.reshape(PIXELS), STD.reshape(PIXELS)
    alpha, sigma = alpha_sigma(jnp.array([-6.0, 6.0]))
    spread = [np.sqrt(a**2 * std**2 + s**2) for a, s in zip(alpha, sigma, strict=True)]
    z_end = alpha[1] * mean + spread[1] * (z_1 - alpha[0] * mean) / spread[0]
    exact = gaussian_predict(MEAN, STD)(z_end, jnp.float32(6.0), 0).x0

    def error(num_steps):
        grid = jnp.append(jnp.linspace(-6.0, 6.0, num_steps + 1), 7.0)
        silent = jnp.zeros((num_steps + 1, *z_1.shape))
        found = run(sampler, MEAN, STD, z_1, silent, grid, jnp.float32(0.0))
        return float(jnp.sqrt(jnp.mean(jnp.square(found - exact))))

    errors = [error(num_steps) for num_steps in (20, 40, 80)]
    return np.log2(errors[0] / errors[2]) / 2


@pytest.mark.parametrize(
    ("sampler", "least", "most"),
    [
        ("ddim", 0.8, 1.2),
        ("dpmpp_2m", 1.8, 2.5),
        ("heun", 1.8, 2.5),
        ("unipc", 1.8, 3.6),
    ],
)
def test_measured_order(sampler, least, most):
    order = order_of(sampler)
    assert least <= order <= most, order


def test_gamma_0_is_exact_for_a_single_picture_at_any_step_count():
    samples = draw(MEAN, ZERO, "ddpm", 0.0, 3, count=16)
    np.testing.assert_allclose(samples, np.tile(MEAN, (16, 1)), atol=1e-5)


@pytest.mark.parametrize("num_steps", [3, 16])
def test_gamma_1_is_exact_for_standard_normal_data_at_any_step_count(num_steps):
    """Then z_t is N(0, 1) at every t, and q(z_s | z_t) has the variance of gamma 1.

    The last step returns E[x0 | z] = alpha z, so the deviation is alpha of its level.
    """
    grid = grid_of("cosine", num_steps)
    alpha = float(alpha_sigma(grid[-2])[0])
    std = moments(ZERO, ONE, "ddpm", 1.0, grid)[1]
    np.testing.assert_allclose(std, alpha, rtol=1e-3)
    small = moments(ZERO, ONE, "ddpm", 0.0, grid)[1]
    assert np.all(small < 0.95 * alpha)
