"""Whole runs of the samplers against diffusers' schedulers (marker `oracle`).

Both sides start from the same noise and are given the same x0 at every evaluation and
the same noise at every step; every z that the network would see must agree. diffusers'
solvers work in sigma, here the noise over the picture, and end at sigma 0 as here.
"""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.guidance import rescale
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.diffusion.schedule import make_schedule
from imagen_jax.diffusion.spacing import karras
from imagen_jax.interfaces import Prediction

pytestmark = [
    pytest.mark.oracle,
    # diffusers makes numpy arrays of torch tensors in a way that numpy will drop.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SHAPE = (2, 3, 4, 4)
NUM_STEPS = 12
# Up to log-SNR -8.6: from below -9 Heun's steps here are Euler's, theirs are not.
BETAS = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.017}
# Without sigmas of their own; they step from level to level of a table of alphas.
TABLED = {
    ("ddpm", 0.0): ("DDPMScheduler", {"variance_type": "fixed_small"}, {}),
    ("ddpm", 1.0): ("DDPMScheduler", {"variance_type": "fixed_large"}, {}),
    ("ddim", 0.0): ("DDIMScheduler", {}, {"eta": 0.0}),
    ("ddim", 0.4): ("DDIMScheduler", {}, {"eta": 0.4}),
    ("ddim", 1.0): ("DDIMScheduler", {}, {"eta": 1.0}),
}
SOLVERS = {
    ("dpmpp_2m", 0.0): ("DPMSolverMultistepScheduler", {}),
    ("dpmpp_2m", 1.0): (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
    ),
    ("unipc", 0.0): ("UniPCMultistepScheduler", {"solver_type": "bh2"}),
    ("heun", 0.0): ("HeunDiscreteScheduler", {}),
}


@pytest.fixture(scope="module")
def diffusers():
    pytest.importorskip("torch")
    return pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def to_jax(x):
    return jnp.asarray(np.float32(x).transpose(0, 2, 3, 1))


def to_torch_order(x):
    return np.float64(x).transpose(0, 3, 1, 2)


def arrays():
    """Returns z_1, the x0 of each evaluation and the noise of each step, torch order.

    x0 wanders, as a network's does, rather than being new noise at each evaluation.
    """
    rng = np.random.default_rng(5)
    x0s = rng.uniform(-1, 1, SHAPE) + 0.2 * rng.standard_normal(
        (2 * NUM_STEPS, *SHAPE)
    ).cumsum(0)
    return rng.standard_normal(SHAPE), x0s, rng.standard_normal((NUM_STEPS, *SHAPE))


def theirs(scheduler, torch, heun):
    """Returns (log-SNR, z) of each evaluation, and the last result, by diffusers."""
    z_1, x0s, noises = arrays()
    sigmas = np.float64(scheduler.sigmas.numpy())  # heun lists each level twice
    sample = torch.tensor(z_1, dtype=torch.float32)
    if heun:  # its samples are z / alpha
        sample = sample * float(np.sqrt(1 + sigmas[0] ** 2))
    seen = []
    takes_noise = "variance_noise" in inspect.signature(scheduler.step).parameters
    for i, step in enumerate(scheduler.timesteps):
        scale = np.sqrt(1 + sigmas[i] ** 2) if heun else 1.0
        seen.append((-2 * np.log(sigmas[i]), np.float64(sample.numpy()) / scale))
        options = {}
        if takes_noise:
            noise = torch.tensor(noises[i], dtype=torch.float32)
            options = {"variance_noise": noise}
        x0 = torch.tensor(x0s[i], dtype=torch.float32)
        sample = scheduler.step(x0, step, sample, **options).prev_sample
    return seen, np.float64(sample.numpy())


def ours(kind, stochasticity, logsnrs):
    """Returns the same of a sampler here."""
    z_1, x0s, noises = arrays()
    seen = []

    def predict(z, logsnr, index):
        x0 = to_jax(x0s[len(seen)])
        seen.append((float(logsnr), to_torch_order(z)))
        return Prediction(x0, z)

    with jax.disable_jit():
        result = sample_fn(kind)(
            predict,
            to_jax(z_1),
            jnp.asarray(logsnrs, jnp.float32),
            lambda index: to_jax(noises[index]),
            stochasticity,
        )
    return seen, to_torch_order(result)


@pytest.mark.parametrize("spacing", ["trailing", "karras"])
@pytest.mark.parametrize(("kind", "stochasticity"), list(SOLVERS))
def test_every_evaluation_and_the_result(
    diffusers, torch, kind, stochasticity, spacing
):
    name, options = SOLVERS[kind, stochasticity]
    spaced = {"use_karras_sigmas": True}
    if spacing == "trailing":
        spaced = {"timestep_spacing": "trailing"}
    scheduler = getattr(diffusers, name)(
        1000, prediction_type="sample", **BETAS, **options, **spaced
    )
    scheduler.set_timesteps(NUM_STEPS)
    seen, result = theirs(scheduler, torch, kind == "heun")
    levels = [level for level, _ in seen]
    if kind == "heun":  # levels 0, 1, 1, 2, 2, ...
        levels = [levels[0], *levels[1::2]]
    # They end at sigma 0; here the last level is not evaluated and may be any.
    found, end = ours(kind, stochasticity, [*levels, levels[-1] + 1.0])
    assert len(found) == len(seen) == (2 * NUM_STEPS - 1 if kind == "heun" else 12)
    for (level, z), (their_level, their_z) in zip(found, seen, strict=True):
        assert level == pytest.approx(their_level, abs=1e-5)
        np.testing.assert_allclose(z, their_z, atol=1e-4)
    np.testing.assert_allclose(end, result, atol=1e-5)


@pytest.mark.parametrize(("kind", "stochasticity"), list(TABLED))
def test_every_ancestral_and_ddim_step(
    diffusers, torch, monkeypatch, kind, stochasticity
):
    name, options, of_step = TABLED[kind, stochasticity]
    scheduler = getattr(diffusers, name)(
        1000, prediction_type="sample", clip_sample=False, **BETAS, **options
    )
    scheduler.set_timesteps(NUM_STEPS)
    z_1, x0s, noises = (torch.tensor(x, dtype=torch.float32) for x in arrays())
    module = importlib.import_module(type(scheduler).__module__)
    sample, seen = z_1, []
    for step, x0, noise in zip(scheduler.timesteps, x0s, noises, strict=False):
        seen.append(np.float64(sample.numpy()))
        monkeypatch.setattr(module, "randn_tensor", lambda *_, n=noise, **__: n)
        sample = scheduler.step(x0, step, sample, **of_step).prev_sample
    alpha_bars = scheduler.alphas_cumprod[scheduler.timesteps]
    levels = torch.log(alpha_bars / (1 - alpha_bars)).numpy()
    found, end = ours(kind, stochasticity, [*levels, levels[-1] + 1.0])
    for (_, z), their_z in zip(found, seen, strict=True):
        np.testing.assert_allclose(z, their_z, atol=1e-4)
    np.testing.assert_allclose(end, sample.numpy(), atol=1e-5)


def test_karras_spacing(diffusers):
    """Theirs ends at the table's lowest sigma, where here it is not evaluated."""
    scheduler = diffusers.HeunDiscreteScheduler(1000, use_karras_sigmas=True, **BETAS)
    scheduler.set_timesteps(NUM_STEPS + 1)
    sigmas = np.unique(np.float64(scheduler.sigmas.numpy()))[1:][::-1]
    limits = -2 * np.log(sigmas[[0, -1]])
    wide = make_schedule("cosine_truncated", -20.0, 20.0)
    grid = karras(wide, NUM_STEPS, limits.tolist())
    np.testing.assert_allclose(grid, -2 * np.log(sigmas), atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_rescaled_guidance(diffusers, torch, share):
    module = pytest.importorskip(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"
    )
    generator = torch.Generator().manual_seed(4)
    cond, guided = torch.randn((2, *SHAPE), generator=generator) * torch.tensor(
        [1.0, 3.0]
    ).reshape(2, 1, 1, 1, 1)
    expected = module.rescale_noise_cfg(guided, cond, guidance_rescale=share)
    result = rescale(to_jax(guided.numpy()), to_jax(cond.numpy()), share)
    np.testing.assert_allclose(to_torch_order(result), expected.numpy(), atol=1e-5)
