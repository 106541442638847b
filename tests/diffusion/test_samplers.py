"""What all samplers share: one signature, x0 at the end, eps never read."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.samplers import SAMPLERS, ddim, ddpm, sample_fn
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.diffusion.spacing import logsnr_grid
from imagen_jax.diffusion.stepping import ddpm_step
from imagen_jax.interfaces import Prediction

SHAPE = (2, 2, 2, 3)
X0 = jax.random.uniform(jax.random.key(0), SHAPE, minval=-1.0)
EPS = jax.random.normal(jax.random.key(1), SHAPE)
NOISE = jax.random.normal(jax.random.key(2), SHAPE)
COSINE = make_schedule("cosine", -20.0, 20.0)
GRID = logsnr_grid(COSINE, 5)
NOT_KNOWN = jnp.full(SHAPE, jnp.nan)


def known(z, logsnr, index):
    """The prediction of an oracle that knows the picture."""
    return Prediction(X0, eps_from_x0(z, X0, logsnr))


def curved(z, logsnr, index):
    """A prediction that depends on all that a network sees; no eps comes with it."""
    x0 = jnp.tanh(z * jax.nn.sigmoid(logsnr) + 0.3 * jnp.sin(logsnr) + 0.1 * index)
    return Prediction(x0, NOT_KNOWN)


def noise_fn(index):
    return jnp.cos(NOISE * (1.0 + index))


def test_all_have_one_signature():
    signatures = [inspect.signature(sample_fn(kind)) for kind in SAMPLERS]
    assert [str(each) for each in signatures] == [str(signatures[0])] * 5


def test_sample_fn_names_the_choices():
    assert sample_fn("ddpm") is ddpm
    assert sample_fn("ddim") is ddim
    with pytest.raises(ValueError, match="ddpm, ddim, dpmpp_2m, unipc, heun"):
        sample_fn("euler")


@pytest.mark.parametrize("kind", SAMPLERS)
def test_result_is_the_last_x0_without_noise(kind):
    result = sample_fn(kind)(known, EPS, GRID, lambda i: 100.0 * NOISE, 1.0)
    np.testing.assert_array_equal(result, X0)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_one_step_is_one_prediction(kind):
    result = sample_fn(kind)(curved, EPS, GRID[-2:], noise_fn, 1.0)
    expected = curved(EPS, GRID[-2], 0).x0
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_eps_is_made_from_x0_and_never_read(kind):
    """`curved` gives NaN for eps: what thresholding did to x0 must hold for eps too."""
    result = sample_fn(kind)(curved, EPS, GRID, noise_fn, 0.5)
    assert np.all(np.isfinite(result))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_levels_and_indices_that_the_network_sees(kind):
    seen = []

    def predict(z, logsnr, index):
        seen.append((float(logsnr), int(index)))
        return curved(z, logsnr, index)

    with jax.disable_jit():
        sample_fn(kind)(predict, EPS, GRID, noise_fn, 0.0)
    wanted = [(float(logsnr), i) for i, logsnr in enumerate(GRID[:-1])]
    if kind == "heun":  # not from log-SNR -20, and not in the last step
        both = [level for i in (1, 2, 3) for level in wanted[i : i + 2]]
        wanted = [wanted[0], *both, wanted[-1]]
    np.testing.assert_allclose(seen, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ddim", "dpmpp_2m", "unipc", "heun"])
def test_without_stochasticity_noise_has_no_effect(kind):
    results = [
        sample_fn(kind)(curved, EPS, GRID, lambda i, k=k: k * NOISE, 0.0)
        for k in (1.0, 9.0)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("kind", ["ddpm", "ddim", "dpmpp_2m", "heun"])
def test_each_step_draws_its_own_noise(kind):
    """Silencing any step's noise but the last changes the picture."""
    last = len(GRID) - 2

    @jax.jit
    def result(silent):
        def noise(index):
            return jnp.where(index == silent, 0.0, noise_fn(index))

        return sample_fn(kind)(curved, EPS, GRID, noise, 1.0)

    whole = result(-1)
    # Heun's churn raises the noise before a step, hence not before the first.
    steps = range(1, last + 1) if kind == "heun" else range(last)
    for step in steps:
        assert float(jnp.abs(result(step) - whole).max()) > 1e-4
    if kind != "heun":
        np.testing.assert_array_equal(result(last), whole)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_picture_depends_on_itself_alone(kind):
    result = sample_fn(kind)(curved, EPS, GRID, noise_fn, 0.5)
    reverse = sample_fn(kind)(curved, EPS[::-1], GRID, lambda i: noise_fn(i)[::-1], 0.5)
    np.testing.assert_allclose(reverse, result[::-1], rtol=1e-5, atol=1e-6)


def test_ddpm_is_its_step_repeated():
    z = EPS
    for i in range(4):
        found = curved(z, GRID[i], i)
        z = ddpm_step(z, found, GRID[i], GRID[i + 1], noise_fn(i), 0.5)
    expected = curved(z, GRID[4], 4).x0
    result = ddpm(curved, EPS, GRID, noise_fn, 0.5)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_network_is_traced_once_and_values_do_not_retrace(kind):
    traces = []

    def predict(z, logsnr, index):
        traces.append(index)
        return curved(z, logsnr, index)

    @jax.jit
    def run(z, logsnrs, stochasticity):
        return sample_fn(kind)(predict, z, logsnrs, noise_fn, stochasticity)

    for shift, stochasticity in ((0.0, 0.0), (0.1, 0.5), (0.2, 1.0)):
        run(EPS, GRID + shift, jnp.float32(stochasticity))
    assert len(traces) == 1
