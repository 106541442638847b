"""Training times, loss weights, and the loss of known networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.loss import (
    MIN_SNR_GAMMA,
    SIGMOID_BIAS,
    WEIGHTINGS,
    denoising_loss,
    loss_weight,
    sample_times,
)
from imagen_jax.diffusion.parameterization import PREDICTIONS, target, to_prediction
from imagen_jax.diffusion.process import diffuse
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.interfaces import Conditioning

SHAPE = (4, 2, 2, 3)
X0 = jax.random.uniform(jax.random.key(0), SHAPE, minval=-1.0)
EPS = jax.random.normal(jax.random.key(1), SHAPE)
WRONG = jax.random.normal(jax.random.key(2), SHAPE)
T = jnp.array([0.1, 0.35, 0.6, 0.9])
SCHEDULE = make_schedule("cosine", -20.0, 20.0)
LOGSNR = SCHEDULE.logsnr(T)
COND = Conditioning(jnp.zeros((4, 1, 1)), jnp.ones((4, 1), bool))


def network(kind):
    """Predicts the noise `WRONG`, said as eps, v or x0: one network in three spaces."""

    def denoiser(z, logsnr, cond):
        prediction = to_prediction("eps", WRONG, z, logsnr)
        return target(kind, prediction.x0, prediction.eps, logsnr)

    return denoiser


def loss(kind, weighting):
    return denoising_loss(
        network(kind), SCHEDULE, X0, EPS, T, COND, prediction=kind, weighting=weighting
    )


def keys(count):
    return jax.random.split(jax.random.key(7), count)


def test_uniform_times_come_each_from_their_own_key():
    times = sample_times(keys(6), "uniform")
    expected = [jax.random.uniform(key) for key in keys(6)]
    np.testing.assert_array_equal(times, jnp.stack(expected))
    np.testing.assert_array_equal(times[2:4], sample_times(keys(6)[2:4], "uniform"))


def test_uniform_times_are_uniform():
    times = np.sort(sample_times(keys(2000), "uniform"))
    # Kolmogorov-Smirnov distance; 1.95 / sqrt(n) is the 0.1 % point.
    assert np.abs(times - np.linspace(0, 1, 2000)).max() < 1.95 / np.sqrt(2000)


@pytest.mark.parametrize("count", [1, 7, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_low_discrepancy_times_put_one_in_each_interval(count, seed):
    times = np.sort(
        sample_times(jax.random.split(jax.random.key(seed), count), "low_discrepancy")
    )
    assert times[0] >= 0.0
    assert times[-1] < 1.0
    np.testing.assert_allclose(np.diff(times), 1 / count, atol=1e-6)


def test_low_discrepancy_times_move_with_the_first_key():
    first = sample_times(keys(4), "low_discrepancy")
    u = jax.random.uniform(keys(4)[0])
    np.testing.assert_allclose(first, (u + np.arange(4) / 4) % 1.0, atol=1e-6)


def test_unknown_times_name_the_choices():
    with pytest.raises(ValueError, match="uniform, low_discrepancy"):
        sample_times(keys(2), "sobol")


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_perfect_network_has_no_loss(kind, weighting):
    def perfect(z, logsnr, cond):
        return target(kind, X0, EPS, logsnr)

    result = denoising_loss(
        perfect, SCHEDULE, X0, EPS, T, COND, prediction=kind, weighting=weighting
    )
    np.testing.assert_array_equal(result.weighted, np.zeros(4))


def test_the_papers_loss_is_the_mean_square_error_of_eps():
    result = loss("eps", "plain")
    expected = np.mean((np.asarray(WRONG) - np.asarray(EPS)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(result.weighted, expected, rtol=1e-6)
    np.testing.assert_array_equal(result.weighted, result.square_error)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_eps_weighting_is_the_eps_loss_in_every_space(kind):
    expected = loss("eps", "plain").weighted
    np.testing.assert_allclose(loss(kind, "eps").weighted, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_x0_weighting_is_the_x0_loss_in_every_space(kind):
    guess = to_prediction("eps", WRONG, diffuse(X0, EPS, LOGSNR), LOGSNR).x0
    expected = np.mean((np.asarray(guess) - np.asarray(X0)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss(kind, "x0").weighted, expected, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["v", "min_snr_5", "sigmoid"])
def test_other_weightings_do_not_depend_on_the_space(weighting):
    expected = loss("v", weighting).weighted
    for kind in ("eps", "x0"):
        np.testing.assert_allclose(loss(kind, weighting).weighted, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_weighting_in_the_networks_own_space_is_1(kind):
    logsnr = jnp.array([-20.0, -1.0, 0.0, 3.0, 20.0])
    np.testing.assert_array_equal(loss_weight(kind, kind, logsnr), np.ones(5))
    np.testing.assert_array_equal(loss_weight("plain", kind, logsnr), np.ones(5))


@settings(max_examples=30, deadline=None)
@given(logsnr=st.floats(-20, 20, width=32))
def test_min_snr_formulas(logsnr):
    snr, g = np.exp(np.float64(logsnr)), MIN_SNR_GAMMA
    expected = {
        "x0": min(snr, g),
        "eps": min(snr, g) / snr,
        "v": min(snr, g) / (snr + 1),
    }
    for kind, weight in expected.items():
        got = loss_weight("min_snr_5", kind, jnp.float32([logsnr]))
        np.testing.assert_allclose(got, [weight], rtol=1e-5)


def test_min_snr_gamma_is_5():
    assert MIN_SNR_GAMMA == 5.0


def test_sigmoid_weight_is_half_at_the_bias_and_falls_with_the_snr():
    logsnr = jnp.array([-20.0, SIGMOID_BIAS, 20.0])
    weight = loss_weight("sigmoid", "eps", logsnr)
    np.testing.assert_allclose(weight[:2], [1.0, 0.5], atol=1e-5)
    assert 0.0 < float(weight[2]) < 1e-8


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_are_finite_and_positive_at_the_clipped_ends(kind, weighting):
    weight = loss_weight(weighting, kind, jnp.array([-20.0, 20.0]))
    assert np.all(np.isfinite(weight))
    assert np.all(weight > 0)


def test_reports_the_log_snr_and_the_unweighted_error():
    result = loss("v", "min_snr_5")
    np.testing.assert_array_equal(result.logsnr, LOGSNR)
    np.testing.assert_allclose(
        result.weighted / result.square_error,
        loss_weight("min_snr_5", "v", LOGSNR),
        rtol=1e-5,
    )


def test_bfloat16_output_is_compared_in_float32():
    def half(z, logsnr, cond):
        return WRONG.astype(jnp.bfloat16)

    result = denoising_loss(
        half, SCHEDULE, X0, EPS, T, COND, prediction="eps", weighting="plain"
    )
    rounded = np.asarray(WRONG.astype(jnp.bfloat16), np.float64)
    expected = np.mean((rounded - np.asarray(EPS)) ** 2, axis=(1, 2, 3))
    assert result.weighted.dtype == jnp.float32
    np.testing.assert_allclose(result.weighted, expected, rtol=1e-6)


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="min_snr_5"):
        loss_weight("p2", "eps", LOGSNR)
    with pytest.raises(ValueError, match="eps, v, x0"):
        loss_weight("plain", "score", LOGSNR)
