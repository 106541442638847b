"""Schedules: the tables of the reference, the inverse, and the clipping."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.schedule import (
    KINDS,
    CosineSchedule,
    LinearSchedule,
    NormalSchedule,
    TruncatedCosineSchedule,
    make_schedule,
    resolution_shift,
)
from tests.tiny import tiny_stage

SCHEDULES = {
    "cosine": CosineSchedule(),
    "truncated": TruncatedCosineSchedule(),
    "linear": LinearSchedule(),
    "normal": NormalSchedule(2.4),
    "shifted": make_schedule("cosine", -20.0, 20.0, resolution_shift(256)),
}
# Inside these times no schedule is clipped, and float32 has the digits to invert it.
INNER_TIMES = np.linspace(0.001, 0.999, 500, dtype=np.float32)


def logsnr_at(schedule, t):
    return float(schedule.logsnr(jnp.float32(t)))


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (0.0, 8.77),
        (0.1, 3.55),
        (0.25, 1.71),
        (0.5, -0.02),
        (0.75, -1.78),
        (0.9, -3.70),
        (0.99, -8.32),
        (0.999, -12.93),
        (1.0, -20.0),
    ],
)
def test_cosine_has_the_log_snr_of_the_table(t, expected):
    assert logsnr_at(CosineSchedule(), t) == pytest.approx(expected, abs=0.0051)


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (0.001, 9.115),
        (0.01, 6.216),
        (0.05, 3.496),
        (0.1, 2.157),
        (0.25, 0.095),
        (0.5, -2.455),
        (1.0, -10.050),
    ],
)
def test_linear_has_the_log_snr_of_the_table(t, expected):
    assert logsnr_at(LinearSchedule(), t) == pytest.approx(expected, abs=0.00051)


@pytest.mark.parametrize("t", [0.001, 0.05, 0.3, 0.7, 0.9, 0.999])
def test_cosine_matches_its_formula_in_float64(t):
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = np.log(alpha_bar / (1 - alpha_bar))
    assert logsnr_at(CosineSchedule(), t) == pytest.approx(expected, abs=2e-4)


def test_truncated_cosine_ends_exactly_at_its_limits():
    schedule = TruncatedCosineSchedule(-15.0, 12.0)
    assert logsnr_at(schedule, 0.0) == pytest.approx(12.0, abs=1e-4)
    assert logsnr_at(schedule, 1.0) == pytest.approx(-15.0, abs=1e-4)


def test_uniform_times_of_the_normal_schedule_give_normal_log_snrs():
    """As EDM draws them: ln sigma = -logsnr / 2 has mean -1.2 and deviation 1.2."""
    schedule = make_schedule("normal", -20.0, 20.0, shift=2.4, std=2.4)
    t = (np.arange(20_000, dtype=np.float32) + 0.5) / 20_000
    log_sigma = -np.asarray(schedule.logsnr(jnp.asarray(t))) / 2
    assert log_sigma.mean() == pytest.approx(-1.2, abs=1e-3)
    assert log_sigma.std() == pytest.approx(1.2, abs=1e-3)
    quantiles = scipy.stats.norm(-1.2, 1.2).ppf(t)
    np.testing.assert_allclose(log_sigma, quantiles, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_has_the_schedule_of_its_settings(kind):
    settings = {"kind": kind, "shift": -3.0, "std": 1.8}
    stage = tiny_stage("base", diffusion={"schedule": settings})
    assert stage.schedule == make_schedule(kind, -20.0, 20.0, -3.0, 1.8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_falls_strictly(name):
    assert np.all(np.diff(SCHEDULES[name].logsnr(jnp.asarray(INNER_TIMES))) < 0)


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=25, deadline=None)
@given(t=st.floats(2**-10, 1 - 2**-10, width=32))
def test_t_inverts_log_snr(name, t):
    schedule = SCHEDULES[name]
    assert float(schedule.t(schedule.logsnr(jnp.float32(t)))) == pytest.approx(
        t, abs=3e-7
    )


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=25, deadline=None)
@given(logsnr=st.floats(-8.0, 4.0, width=32))
def test_log_snr_inverts_t(name, logsnr):
    schedule = SCHEDULES[name]
    again = schedule.logsnr(schedule.t(jnp.float32(logsnr)))
    assert float(again) == pytest.approx(logsnr, abs=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_t_of_a_log_snr_out_of_reach_is_the_nearest_end(name):
    ends = SCHEDULES[name].t(jnp.array([60.0, -60.0]))
    np.testing.assert_allclose(ends, [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0.0, -2.77, 1.5])
def test_limits_hold_after_the_shift(kind, shift):
    logsnr = make_schedule(kind, -6.0, 5.0, shift).logsnr(jnp.linspace(0.0, 1.0, 101))
    assert np.all(np.isfinite(logsnr))
    np.testing.assert_allclose([logsnr[0], logsnr[-1]], [5.0, -6.0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_shift_adds_to_the_log_snr(kind):
    t = jnp.asarray([0.2, 0.5, 0.8])
    plain = make_schedule(kind, -20.0, 20.0).logsnr(t)
    shifted = make_schedule(kind, -20.0, 20.0, -2.0).logsnr(t)
    # The limits that follow the shift bend the truncated cosine a little.
    np.testing.assert_allclose(shifted, plain - 2.0, atol=2e-3)


@pytest.mark.parametrize(
    ("resolution", "shift"), [(64, 0.0), (128, -1.39), (256, -2.77), (1024, -5.55)]
)
def test_resolution_shift(resolution, shift):
    assert resolution_shift(resolution) == pytest.approx(shift, abs=0.005)


def test_any_shape_and_float32():
    for schedule in SCHEDULES.values():
        logsnr = schedule.logsnr(jnp.full((2, 3), 0.5))
        assert logsnr.shape == (2, 3)
        assert logsnr.dtype == schedule.t(logsnr).dtype == jnp.float32


def test_schedules_are_hashable_settings():
    assert hash(make_schedule("cosine", -20.0, 20.0, -1.0)) == hash(
        make_schedule("cosine", -20.0, 20.0, -1.0)
    )


def test_unknown_kind_names_the_choices():
    with pytest.raises(ValueError, match="cosine, cosine_truncated, linear, normal"):
        make_schedule("sigmoid", -20.0, 20.0)
