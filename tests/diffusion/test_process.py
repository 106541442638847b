"""alpha and sigma, the forward process, and the posterior against float64 algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.process import alpha_sigma, diffuse, expand, posterior

LOGSNR = st.floats(-20.0, 20.0, width=32)
SHAPE = (2, 2, 2, 3)


def normal(seed):
    return jax.random.normal(jax.random.key(seed), SHAPE)


@settings(max_examples=50, deadline=None)
@given(logsnr=LOGSNR)
def test_alpha_and_sigma_preserve_variance_and_give_the_log_snr(logsnr):
    alpha, sigma = (np.float64(x) for x in alpha_sigma(jnp.float32(logsnr)))
    assert alpha**2 + sigma**2 == pytest.approx(1.0, abs=2e-7)
    assert 2 * np.log(alpha / sigma) == pytest.approx(logsnr, abs=1e-5)


def test_expand_appends_axes():
    like = jnp.zeros(SHAPE)
    assert expand(jnp.zeros(2), like).shape == (2, 1, 1, 1)
    assert expand(jnp.float32(0), like).shape == (1, 1, 1, 1)


def test_diffuse_takes_one_level_per_picture():
    x0, eps = normal(0), normal(1)
    z = diffuse(x0, eps, jnp.array([0.0, 2.0]))
    # sigmoid(0) = 1/2; sigmoid(2) = 0.880797.
    np.testing.assert_allclose(z[0], (x0[0] + eps[0]) * np.sqrt(0.5), rtol=1e-5)
    expected = x0[1] * np.sqrt(0.880797) + eps[1] * np.sqrt(0.119203)
    np.testing.assert_allclose(z[1], expected, rtol=1e-4, atol=1e-6)


def test_diffuse_with_one_level_for_all_equals_it_per_picture():
    x0, eps = normal(0), normal(1)
    np.testing.assert_array_equal(
        diffuse(x0, eps, jnp.float32(1.5)), diffuse(x0, eps, jnp.full(2, 1.5))
    )


def gaussian_product(z, x0, logsnr_t, logsnr_s):
    """The posterior in float64 as the product of two Gaussians in z_s."""
    alpha_bar = 1 / (1 + np.exp(-np.float64([logsnr_t, logsnr_s])))
    alpha_t, alpha_s = np.sqrt(alpha_bar)
    var_t, var_s = 1 - alpha_bar
    forward = alpha_t / alpha_s  # q(z_t | z_s) = N(forward z_s, var_forward)
    var_forward = var_t - forward**2 * var_s
    precision = 1 / var_s + forward**2 / var_forward
    mean = (alpha_s * x0 / var_s + forward * z / var_forward) / precision
    return mean, np.sqrt(1 / precision), np.sqrt(var_forward)


# Steps of at least 0.01 in log-SNR, above which the float64 subtraction is accurate.
@settings(max_examples=50, deadline=None)
@given(logsnr_t=st.floats(-18, 12, width=32), gap=st.floats(0.015625, 8, width=32))
def test_posterior_is_the_gaussian_product(logsnr_t, gap):
    logsnr_t, logsnr_s = jnp.float32(logsnr_t), jnp.float32(logsnr_t + gap)
    z, x0 = normal(2), normal(3)
    expected = gaussian_product(
        np.float64(z), np.float64(x0), float(logsnr_t), float(logsnr_s)
    )
    mean, small = posterior(z, x0, logsnr_t, logsnr_s, 0.0)
    large = posterior(z, x0, logsnr_t, logsnr_s, 1.0)[1]
    np.testing.assert_allclose(mean, expected[0], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(small.squeeze(), expected[1], rtol=1e-3)
    np.testing.assert_allclose(large.squeeze(), expected[2], rtol=1e-3)


def test_gamma_interpolates_the_variance_geometrically():
    z, x0 = normal(2), normal(3)
    small, half, large = (
        posterior(z, x0, jnp.float32(-1.0), jnp.float32(1.0), gamma)[1]
        for gamma in (0.0, 0.5, 1.0)
    )
    assert float(small.squeeze()) < float(large.squeeze())
    np.testing.assert_allclose(half**2, small * large, rtol=1e-5)


def test_posterior_between_equal_levels_is_z_itself():
    z, x0 = normal(2), normal(3)
    mean, std = posterior(z, x0, jnp.float32(-20.0), jnp.float32(-20.0), 0.5)
    np.testing.assert_allclose(mean, z, rtol=1e-6)
    np.testing.assert_array_equal(std, 0.0)


def test_posterior_takes_one_level_per_picture():
    z, x0 = normal(2), normal(3)
    t, s = jnp.array([-3.0, 0.5]), jnp.array([-2.0, 4.0])
    mean, std = posterior(z, x0, t, s, 0.3)
    for i in range(2):
        mean_i, std_i = posterior(z[i : i + 1], x0[i : i + 1], t[i], s[i], 0.3)
        np.testing.assert_allclose(mean[i], mean_i[0], rtol=1e-5)
        np.testing.assert_allclose(std[i], std_i[0], rtol=1e-5)
