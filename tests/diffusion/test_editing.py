"""Editing against what is known exactly: Gaussian data, noise, single steps."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.editing import keep_known, resampling_steps, slerp
from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.process import alpha_sigma, diffuse, raise_noise
from imagen_jax.diffusion.samplers import SAMPLERS, sample_fn
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.diffusion.spacing import SPACINGS, logsnr_grid
from imagen_jax.diffusion.stepping import Interval, march
from imagen_jax.interfaces import Prediction

COSINE = make_schedule("cosine", -20.0, 20.0)
SHAPE = (2, 2, 2, 1)
# One sampler always, the others in the complete run.
KINDS = ["unipc", *(pytest.param(k, marks=pytest.mark.slow) for k in SAMPLERS[:3])]
KINDS += [pytest.param("heun", marks=pytest.mark.slow)]
# Four correlated pixels; the first two are known. Neighbours are what inpainting needs.
MEAN = np.array([0.2, -0.1, 0.3, 0.0])
COVARIANCE = 0.25 * 0.8 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
KNOWN = np.array([0.9, -0.7])
MASK = jnp.array([0.0, 0.0, 1.0, 1.0]).reshape(1, 2, 2, 1)


def conditional():
    """The exact mean and covariance of the last two pixels given the first two."""
    gain = COVARIANCE[2:, :2] @ np.linalg.inv(COVARIANCE[:2, :2])
    mean = MEAN[2:] + gain @ (KNOWN - MEAN[:2])
    return mean, COVARIANCE[2:, 2:] - gain @ COVARIANCE[:2, 2:]


def correlated_predict(z, logsnr, index):
    """The exact denoiser: E[x0 | z] = mu + alpha C (alpha^2 C + sigma^2)^-1 (...)."""
    alpha, sigma = alpha_sigma(logsnr)
    variances, axes = np.linalg.eigh(COVARIANCE)
    gains = alpha * variances / (alpha**2 * variances + sigma**2)
    mean, axes = jnp.asarray(MEAN, jnp.float32), jnp.asarray(axes, jnp.float32)
    x0 = mean + ((z.reshape(-1, 4) - alpha * mean) @ axes * gains) @ axes.T
    x0 = x0.reshape(z.shape)
    return Prediction(x0, eps_from_x0(z, x0, logsnr))


@functools.partial(jax.jit, static_argnames="kind")
def inpaint(kind, stochasticity, steps, grid):
    """Returns the picture that a sampler inpaints when all noise is zero."""
    known = jnp.append(jnp.asarray(KNOWN, jnp.float32), jnp.zeros(2))
    known = known.reshape(MASK.shape)

    def silent(visit):
        return jnp.zeros(MASK.shape)

    detour = keep_known(known, MASK, grid, steps, silent, silent)
    sample = sample_fn(kind)
    return sample(correlated_predict, silent(0), grid, silent, stochasticity, detour)


def mean_error(kind, repeats, stochasticity=0.0, num_steps=32, jump=2):
    """Distance of the mean from the exact one, in standard deviations.

    Every sampler is affine in its noises, so without any it draws the mean.
    """
    grid = logsnr_grid(COSINE, num_steps)
    steps = resampling_steps(num_steps, jump, repeats)
    drawn = np.float64(inpaint(kind, jnp.float32(stochasticity), steps, grid)).ravel()
    np.testing.assert_array_equal(drawn[:2], np.float32(KNOWN))
    mean, covariance = conditional()
    return np.abs((drawn[2:] - mean) / np.sqrt(np.diag(covariance))).max()


@pytest.mark.parametrize("kind", KINDS)
def test_inpainting_approaches_the_conditional_mean_with_more_repeats(kind):
    """Without repeats the mean is off by 1.2 deviations or more; with 16, by 0.45."""
    once, often = mean_error(kind, 1), mean_error(kind, 16)
    assert once > 1.0
    assert often < 0.55


@pytest.mark.slow
def test_inpainting_reaches_the_conditional_mean():
    """What is left after many repeats falls with the jump: measured 0.53, 0.26, 0.12.

    A repeat conditions on noised known pixels, not on the known ones themselves.
    """
    errors = [mean_error("ddpm", 256, jump=jump) for jump in (4, 2, 1)]
    assert errors[0] > 1.5 * errors[1] > 2.0 * errors[2]
    assert errors[2] < 0.15


def test_the_way_over_the_grid():
    steps = resampling_steps(5, jump=2, repeats=3)
    assert steps.tolist() == [0, 1] * 3 + [2, 3] * 3 + [4] * 3
    assert resampling_steps(5, jump=9, repeats=1).tolist() == list(range(5))


def test_march_follows_a_detour_and_forgets_at_each_jump():
    steps = resampling_steps(4, jump=2, repeats=2)  # 0 1 0 1 2 3 2 3
    grid = jnp.linspace(-3.0, 3.0, 5)
    noise = np.zeros((1, 8, 1, 5))
    detour = keep_known(
        *(jnp.asarray(noise, jnp.float32), jnp.ones((1, 8, 1, 1)), grid, steps),
        *(lambda visit: jnp.zeros(noise.shape),) * 2,
    )
    detour = detour._replace(before=lambda z, at: z)  # so that z is only written here

    def record(z, memory, at):
        row = jnp.stack([at.index, at.visit, at.age, at.logsnr_t, memory])
        z = z.at[0, at.visit, 0].set(row)
        return z, z, memory + 1.0

    seen = march(record, jnp.zeros(noise.shape), jnp.float32(0.0), grid, detour)
    index, visit, age, level, memory = np.asarray(seen[0, :, 0]).T
    np.testing.assert_array_equal(index, steps)
    np.testing.assert_array_equal(visit, np.arange(8))
    # From step 1 of the first stretch on to step 2 nothing is jumped.
    np.testing.assert_array_equal(age, [0, 1, 0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(memory, age)
    np.testing.assert_allclose(level, grid[steps], rtol=1e-6)


def test_known_pixels_and_jumps_have_the_noise_of_their_level():
    grid = jnp.linspace(-3.0, 3.0, 5)
    steps = resampling_steps(4, jump=2, repeats=2)
    known, noise, z = jax.random.normal(jax.random.key(0), (3, *SHAPE))
    mask = jnp.arange(8.0).reshape(2, 2, 2, 1) % 2
    detour = keep_known(
        known, mask, grid, steps, lambda i: noise + i, lambda i: noise - i
    )
    levels = [*np.asarray(grid[1:4]), np.inf]
    came_from = None
    for i, step in enumerate(steps):
        reached, index = jnp.float32(levels[step]), jnp.int32(step)
        at = Interval(index, grid[step], grid[step + 1], jnp.int32(i), jnp.int32(0))
        expected = jnp.where(mask > 0, z, diffuse(known, noise + i, reached))
        np.testing.assert_allclose(detour.after(z, at), expected, atol=1e-6)
        level = at.logsnr_t if came_from is None else came_from
        expected = raise_noise(z, noise - i, jnp.float32(level), at.logsnr_t)
        np.testing.assert_allclose(detour.before(z, at), expected, atol=1e-6)
        jumped = i in (2, 6)
        assert (np.abs(detour.before(z, at) - z).max() > 0.1) == jumped
        came_from = reached
    np.testing.assert_array_equal(
        jnp.where(mask > 0, z, detour.after(z, at)), jnp.where(mask > 0, z, known)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_known_and_no_repeats_is_plain_sampling(kind):
    grid = logsnr_grid(COSINE, 6)
    noises = jax.random.normal(jax.random.key(0), (7, *SHAPE))
    detour = keep_known(
        *(jnp.zeros(SHAPE), jnp.ones(SHAPE), grid, resampling_steps(6, 2, 1)),
        *(lambda visit: 9.0 * noises[visit],) * 2,
    )

    @jax.jit
    def sample(z):
        given = (correlated_predict, z, grid, noises.__getitem__, jnp.float32(0.0))
        return [sample_fn(kind)(*given, way) for way in (None, detour)]

    plain, edited = sample(noises[6])
    np.testing.assert_allclose(edited, plain, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_goes_from_the_picture_to_plain_sampling(kind):
    """Noised to almost no time the picture comes back; to almost 1, it is forgotten.

    At time 0.9999 the cosine schedule leaves 1.6e-4 of the picture, and at 0.001 it has
    noise of 0.013.
    """
    noises = jax.random.normal(jax.random.key(0), (9, *SHAPE))
    picture = jnp.clip(noises[7], -1.0, 1.0)

    @jax.jit
    def sample(z, grid):
        stochasticity = jnp.float32(0.0)
        noise_fn = noises.__getitem__
        return sample_fn(kind)(correlated_predict, z, grid, noise_fn, stochasticity)

    def edited(strength):
        grid = logsnr_grid(COSINE, 8, start=strength)
        return np.asarray(sample(diffuse(picture, noises[8], grid[0]), grid))

    plain = np.asarray(sample(noises[8], logsnr_grid(COSINE, 8)))
    np.testing.assert_allclose(edited(0.001), picture, atol=0.05)
    np.testing.assert_allclose(edited(0.9999), plain, atol=0.02)
    distances = [np.abs(edited(s) - picture).mean() for s in (0.001, 0.2, 0.5, 0.9999)]
    assert all(a < b for a, b in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_grid_that_starts_later(spacing):
    times = (1.0, 0.6, 0.3) if spacing == "explicit" else ()

    def grid(**changes):
        return np.asarray(logsnr_grid(COSINE, 3, spacing, times=times, **changes))

    np.testing.assert_array_equal(grid(start=1.0), grid())
    for start in (0.7, 0.2, 0.001):
        later = grid(start=start)
        np.testing.assert_allclose(
            later[0], COSINE.logsnr(jnp.float32(start)), rtol=1e-4
        )
        assert np.all(np.diff(later) > 0)
        assert later[-1] >= grid()[-1] - 1e-4


def test_slerp_ends_bitwise_at_both_noises_and_keeps_their_variance():
    a, b = jax.random.normal(jax.random.key(0), (2, 5, 64, 64, 3))
    share = jnp.array([0.0, 1.0, 0.25, 0.5, 0.9])
    mixed = slerp(a, b, share)
    np.testing.assert_array_equal(mixed[0], a[0])
    np.testing.assert_array_equal(mixed[1], b[1])
    # The standard error of a variance of 12288 values is 0.013.
    np.testing.assert_allclose(mixed.var((1, 2, 3)), 1.0, atol=0.05)
    angle = np.arccos(np.sum(mixed[3] * a[3]) / np.sum(a[3] ** 2))
    np.testing.assert_allclose(angle, np.pi / 4, atol=0.02)
    np.testing.assert_allclose(slerp(a, a, share), a, rtol=1e-6)
