"""Step spacing: where the steps are, and that they rise from noise to clean."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.schedule import KINDS, make_schedule
from imagen_jax.diffusion.spacing import (
    EDM_LIMITS,
    explicit,
    karras,
    logsnr_grid,
    uniform_logsnr,
    uniform_t,
)

COSINE = make_schedule("cosine", -20.0, 20.0)
WIDE = make_schedule("cosine_truncated", -20.0, 20.0)  # reaches beyond EDM's limits
TIMES = (1.0, 0.7, 0.45, 0.1)


def test_uniform_t_is_even_in_time_from_noise_to_clean():
    grid = uniform_t(COSINE, 4)
    expected = COSINE.logsnr(jnp.array([1.0, 0.75, 0.5, 0.25, 0.0]))
    np.testing.assert_allclose(grid, expected, rtol=1e-5)


def test_uniform_logsnr_is_even_between_its_limits():
    grid = uniform_logsnr(WIDE, 6, (-7.0, 5.0))
    np.testing.assert_allclose(grid, np.linspace(-7.0, 5.0, 7), rtol=1e-6)


@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_karras_is_edms_formula(rho):
    """In float64, sigma_i = (smax^(1/rho) + i/n (smin^(1/rho) - smax^(1/rho)))^rho."""
    root = np.linspace(80.0 ** (1 / rho), 0.002 ** (1 / rho), 11)
    grid = karras(WIDE, 10, rho=rho)
    np.testing.assert_allclose(np.exp(-0.5 * np.float64(grid)), root**rho, rtol=2e-3)


def test_limits_are_narrowed_by_the_schedule_s_ends():
    """The cosine schedule is cleanest at log-SNR 8.77, below EDM's 12.43."""
    for spacing in ("uniform_logsnr", "karras"):
        grid = logsnr_grid(COSINE, 5, spacing)
        assert float(grid[0]) == pytest.approx(EDM_LIMITS[0], abs=1e-4)
        assert float(grid[-1]) == pytest.approx(
            float(COSINE.logsnr(jnp.float32(0.0))), abs=1e-4
        )
        grid = logsnr_grid(COSINE, 5, spacing, limits=(-30.0, 3.0))
        np.testing.assert_allclose(grid[jnp.array([0, -1])], [-20.0, 3.0], atol=1e-4)


def test_explicit_takes_the_times_given_and_ends_clean():
    grid = explicit(COSINE, TIMES)
    np.testing.assert_allclose(grid, COSINE.logsnr(jnp.array([*TIMES, 0.0])))


@pytest.mark.parametrize("spacing", ["uniform_t", "uniform_logsnr", "karras"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_grid_rises(spacing, kind):
    schedule = make_schedule(kind, -20.0, 20.0)
    for num_steps in (1, 7, 1000):
        grid = logsnr_grid(schedule, num_steps, spacing)
        assert grid.shape == (num_steps + 1,)
        assert np.all(np.diff(grid) > 0)


def test_the_name_selects_the_spacing():
    options = {"limits": (-7.0, 5.0), "rho": 3.0, "times": TIMES}
    for name, expected in {
        "uniform_t": uniform_t(COSINE, 4),
        "uniform_logsnr": uniform_logsnr(COSINE, 4, (-7.0, 5.0)),
        "karras": karras(COSINE, 4, (-7.0, 5.0), 3.0),
        "explicit": explicit(COSINE, TIMES),
    }.items():
        grid = logsnr_grid(COSINE, 4, name, **options)
        np.testing.assert_array_equal(grid, expected)
    np.testing.assert_array_equal(logsnr_grid(COSINE, 4), uniform_t(COSINE, 4))
    with pytest.raises(ValueError, match="uniform_t, uniform_logsnr, karras, explicit"):
        logsnr_grid(COSINE, 4, "sigmoid")
