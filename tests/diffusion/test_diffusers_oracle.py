"""Schedules, sampler steps and thresholding against diffusers (marker `oracle`).

diffusers works with 1000 discrete steps; step i there is t = (i + 1) / 1000 here, and
its pictures are channel-first. Each comparison feeds both sides the same arrays.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.samplers import ddim_step, ddpm_step
from imagen_jax.diffusion.schedule import CosineSchedule, LinearSchedule
from imagen_jax.diffusion.thresholding import dynamic_threshold

pytestmark = pytest.mark.oracle

TIMES = (np.arange(1000) + 1) / 1000
SHAPE = (2, 3, 4, 4)


@pytest.fixture(scope="module")
def diffusers():
    pytest.importorskip("torch")
    return pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def log_snr(alpha_bar):
    alpha_bar = np.float64(alpha_bar)
    return np.log(alpha_bar) - np.log1p(-alpha_bar)


def to_jax(x):
    return jnp.asarray(x.numpy().transpose(0, 2, 3, 1))


def to_torch_order(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def test_cosine_table(diffusers):
    """Equal after diffusers' division by the value at t = 0, except its capped end."""
    scheduler = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    theirs = scheduler.alphas_cumprod.numpy()
    schedule = CosineSchedule()
    ours = np.float64(1 / (1 + np.exp(-schedule.logsnr(jnp.float32(TIMES)))))
    at_0 = np.float64(1 / (1 + np.exp(-schedule.logsnr(jnp.float32(0.0)))))
    # the last beta is capped at 0.999; before it only float32 rounding differs
    np.testing.assert_allclose(ours[:-1] / at_0, theirs[:-1], rtol=1e-3, atol=1e-6)
    # the division raises log-SNR only where almost no noise is left
    gap = np.abs(np.float64(schedule.logsnr(jnp.float32(TIMES))) - log_snr(theirs))
    assert gap[100:-1].max() < 0.01


def test_linear_table(diffusers):
    """The continuous limit differs from the 1000-step product by under 0.1."""
    scheduler = diffusers.DDPMScheduler(
        1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02
    )
    theirs = log_snr(scheduler.alphas_cumprod.numpy())
    ours = np.float64(LinearSchedule().logsnr(jnp.float32(TIMES)))
    gap = np.abs(ours - theirs)
    assert gap.max() < 0.1
    assert gap[100:].max() < 0.07
    assert gap[100:700].max() < 0.03


def arrays(torch):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(SHAPE, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize(
    ("variance_type", "gamma"), [("fixed_small", 0.0), ("fixed_large", 1.0)]
)
def test_ddpm_step(diffusers, torch, variance_type, gamma, kind):
    prediction_type = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[kind]
    scheduler = diffusers.DDPMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type=variance_type,
        prediction_type=prediction_type,
        clip_sample=False,
    )
    scheduler.set_timesteps(50)
    z, output, _ = arrays(torch)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))
    alpha_bars = log_snr(scheduler.alphas_cumprod.numpy())
    for step in (900, 500, 40):
        generator = torch.Generator().manual_seed(8)
        theirs = scheduler.step(output, step, z, generator=generator).prev_sample
        logsnr_t = jnp.float32(alpha_bars[step])
        logsnr_s = jnp.float32(alpha_bars[step - 20])
        prediction = to_prediction(kind, to_jax(output), to_jax(z), logsnr_t)
        ours = ddpm_step(
            to_jax(z), prediction, logsnr_t, logsnr_s, to_jax(noise), gamma
        )
        np.testing.assert_allclose(
            to_torch_order(ours), theirs.numpy(), rtol=1e-6, atol=1e-4
        )


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_step(diffusers, torch, eta, kind):
    prediction_type = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[kind]
    scheduler = diffusers.DDIMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        clip_sample=False,
    )
    scheduler.set_timesteps(50)
    z, output, noise = arrays(torch)
    alpha_bars = log_snr(scheduler.alphas_cumprod.numpy())
    for step in (900, 500, 40):
        theirs = scheduler.step(
            output, step, z, eta=eta, variance_noise=noise if eta else None
        ).prev_sample
        logsnr_t = jnp.float32(alpha_bars[step])
        logsnr_s = jnp.float32(alpha_bars[step - 20])
        prediction = to_prediction(kind, to_jax(output), to_jax(z), logsnr_t)
        ours = ddim_step(to_jax(z), prediction, logsnr_t, logsnr_s, to_jax(noise), eta)
        np.testing.assert_allclose(
            to_torch_order(ours), theirs.numpy(), rtol=1e-6, atol=1e-4
        )


@pytest.mark.parametrize("percentile", [80.0, 95.0, 99.5])
@pytest.mark.parametrize("cap", [1.0, 1.5, 100.0])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_dynamic_threshold(diffusers, torch, percentile, cap, scale):
    """`sample_max_value` is the cap of s; its default of 1 makes theirs static."""
    scheduler = diffusers.DDPMScheduler(
        thresholding=True,
        dynamic_thresholding_ratio=percentile / 100,
        sample_max_value=cap,
    )
    x0 = scale * arrays(torch)[0]
    theirs = scheduler._threshold_sample(x0)
    ours = dynamic_threshold(to_jax(x0), jnp.float32(percentile), cap)
    np.testing.assert_allclose(to_torch_order(ours), theirs.numpy(), atol=2e-6)
