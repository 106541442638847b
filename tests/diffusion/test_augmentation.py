"""Bytes, resizing by box average and interpolation, noise on the low-res picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.augmentation import (
    augment,
    downsample,
    to_uint8,
    to_unit,
    upsample,
)
from imagen_jax.diffusion.process import alpha_sigma
from imagen_jax.diffusion.schedule import make_schedule

BYTES = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)
COSINE = make_schedule("cosine", -20.0, 20.0)


def picture(size=4):
    return jax.random.uniform(jax.random.key(0), (2, size, size, 3), minval=-1.0)


def noise(size=4):
    return jax.random.normal(jax.random.key(1), (2, size, size, 3))


def test_every_byte_survives_the_round_trip():
    np.testing.assert_array_equal(to_uint8(to_unit(BYTES)), BYTES)


def test_unit_range():
    unit = to_unit(BYTES)
    assert unit.dtype == jnp.float32
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)


def test_out_of_range_values_saturate_instead_of_wrapping():
    image = jnp.array([-7.0, -1.01, 1.01, 7.0]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(to_uint8(image).ravel(), [0, 0, 255, 255])


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_downsample_is_the_mean_of_each_square(factor):
    x = picture(8)
    small = downsample(x, factor)
    side = 8 // factor
    for i, j in np.ndindex(side, side):
        square = np.asarray(x)[:, i * factor :, j * factor :][:, :factor, :factor]
        np.testing.assert_allclose(small[:, i, j], square.mean((1, 2)), atol=1e-6)


def test_downsample_refuses_a_size_that_does_not_divide():
    with pytest.raises(ValueError, match="8 x 8; downsampling by 3"):
        downsample(picture(8), 3)


def test_nearest_repeats_pixels():
    x = picture(4)
    expected = np.repeat(np.repeat(x, 3, axis=1), 3, axis=2)
    np.testing.assert_array_equal(upsample(x, 12, "nearest"), expected)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic"])
def test_upsample_keeps_constants_and_does_not_shift(method):
    flat = jnp.full((1, 4, 4, 3), 0.3)
    np.testing.assert_allclose(upsample(flat, 16, method), 0.3, atol=1e-6)
    x = picture(4)
    mirrored = upsample(x[:, ::-1, ::-1], 16, method)[:, ::-1, ::-1]
    np.testing.assert_allclose(upsample(x, 16, method), mirrored, atol=1e-5)


def test_bilinear_interpolates_between_pixel_centres():
    x = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1).repeat(2, axis=1)
    row = upsample(x, 4, "bilinear")[0, 0, :, 0]
    np.testing.assert_allclose(row, [0.0, 0.25, 0.75, 1.0], atol=1e-6)


def test_upsample_names_the_methods():
    with pytest.raises(ValueError, match="nearest, bilinear, bicubic"):
        upsample(picture(), 8, "lanczos")


def test_augment_is_alpha_x_plus_sigma_eps_at_the_level_it_reports():
    level = jnp.array([0.2, 0.7])
    noised, aug_logsnr = augment(picture(), level, noise(), COSINE)
    np.testing.assert_array_equal(aug_logsnr, COSINE.logsnr(level))
    alpha, sigma = (x[:, None, None, None] for x in alpha_sigma(aug_logsnr))
    expected = alpha * picture() + sigma * noise()
    np.testing.assert_allclose(noised, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "sigma"),
    [("cosine", 0.0125), ("cosine_truncated", 5e-5), ("linear", 5e-5)],
)
def test_level_0_is_clean_to_within_the_schedules_last_noise(kind, sigma):
    schedule = make_schedule(kind, -20.0, 20.0)
    noised, aug_logsnr = augment(picture(), jnp.zeros(2), noise(), schedule)
    largest = float(jnp.abs(noise()).max())
    assert float(jnp.abs(noised - picture()).max()) <= sigma * (largest + sigma)
    assert float(aug_logsnr.min()) > 8.7


@pytest.mark.parametrize(
    ("kind", "level", "snr"),
    [
        ("cosine", 0.1, 34.6),
        ("cosine", 0.2, 8.9),
        ("cosine", 0.3, 3.7),
        ("linear", 0.1, 8.6),
        ("linear", 0.2, 1.9),
        ("linear", 0.3, 0.66),
    ],
)
def test_snr_of_the_reference_table(kind, level, snr):
    schedule = make_schedule(kind, -20.0, 20.0)
    aug_logsnr = augment(picture(), jnp.full(2, level), noise(), schedule)[1]
    np.testing.assert_allclose(jnp.exp(aug_logsnr), snr, rtol=0.02)
