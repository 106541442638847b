"""Samplers: from noise to a picture along a grid of log-SNRs.

Every sampler is one function with one signature,

  step(z, prediction, logsnr_t, logsnr_s, noise, stochasticity) -> z_s

and `sample` drives it (arXiv:2205.11487, appendix A): start from z_1 ~ N(0, I), times
uniformly spaced from 1 to 0, and at the last step return the predicted x0 itself.

  ddpm  z_s = mean + std noise, the ancestral step of `process.posterior`
  ddim  z_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std noise, with
        std = eta sqrt(1 - r) sigma_s; eta = 0 is the paper's deterministic form
        alpha_s x0 + (sigma_s / sigma_t) (z_t - alpha_t x0) (arXiv:2010.02502, eq. 12)

Steps read `prediction.x0` only: the eps they need is the one that belongs to z and that
x0. Mixing the network's eps with a thresholded x0 is thereby impossible.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.process import (
    PerPicture,
    alpha_sigma,
    expand,
    posterior,
    posterior_share,
)
from imagen_jax.diffusion.schedule import NoiseSchedule
from imagen_jax.interfaces import Prediction


@runtime_checkable
class SamplerStep(Protocol):
    """One step of a sampler, from time t to the cleaner time s."""

    def __call__(
        self,
        z: Float[Array, "b h w c"],
        prediction: Prediction,
        logsnr_t: PerPicture,
        logsnr_s: PerPicture,
        noise: Float[Array, "b h w c"],
        stochasticity: float | Float[Array, ""],
    ) -> Float[Array, "b h w c"]:
        """Returns z_s.

        Args:
          z: noisy pictures at t.
          prediction: the network's, guided and thresholded.
          logsnr_t: log-SNR of z.
          logsnr_s: log-SNR of the result, at least `logsnr_t`.
          noise: standard normal.
          stochasticity: in [0, 1], see each sampler.
        """
        ...


def ddpm_step(
    z: Float[Array, "b h w c"],
    prediction: Prediction,
    logsnr_t: PerPicture,
    logsnr_s: PerPicture,
    noise: Float[Array, "b h w c"],
    stochasticity: float | Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns the ancestral step; stochasticity is the paper's gamma.

    gamma 0 is DDPM's "fixed small" variance, 1 its "fixed large"; both add noise. The
    paper does not say which it used.

    Source: arXiv:2205.11487, appendix A.
    """
    mean, std = posterior(z, prediction.x0, logsnr_t, logsnr_s, stochasticity)
    return mean + std * noise


def ddim_step(
    z: Float[Array, "b h w c"],
    prediction: Prediction,
    logsnr_t: PerPicture,
    logsnr_s: PerPicture,
    noise: Float[Array, "b h w c"],
    stochasticity: float | Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns the DDIM step; stochasticity is eta.

    eta 0 is deterministic (`noise` has no effect), 1 equals `ddpm_step` with gamma 0.

    Source: arXiv:2205.11487, appendix A (eta 0); DDIM, arXiv:2010.02502, eq. 12 and 16.
    """
    eps = eps_from_x0(z, prediction.x0, logsnr_t)
    alpha_s, sigma_s = alpha_sigma(expand(logsnr_s, z))
    renewed = stochasticity**2 * expand(posterior_share(logsnr_t, logsnr_s), z)
    kept = sigma_s * jnp.sqrt(1.0 - renewed)
    return alpha_s * prediction.x0 + kept * eps + sigma_s * jnp.sqrt(renewed) * noise


def sampler_step(kind: str) -> SamplerStep:
    """Returns the step function that a config names: "ddpm" or "ddim".

    Raises:
      ValueError: on an unknown kind.
    """
    match kind:
        case "ddpm":
            return ddpm_step
        case "ddim":
            return ddim_step
        case _:
            raise ValueError(f"sampler {kind!r} is not one of ddpm, ddim")


def logsnr_grid(schedule: NoiseSchedule, num_steps: int) -> Float[Array, " n"]:
    """Returns the num_steps + 1 log-SNRs at times uniformly spaced from 1 to 0."""
    return schedule.logsnr(jnp.linspace(1.0, 0.0, num_steps + 1))


def sample(
    predict: Callable[
        [Float[Array, "b h w c"], Float[Array, ""], Int[Array, ""]], Prediction
    ],
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    step_fn: SamplerStep,
    noise_fn: Callable[[Int[Array, ""]], Float[Array, "b h w c"]],
    stochasticity: float | Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns the pictures at the end of the reverse process: the last predicted x0.

    Args:
      predict: (z, logsnr, step index) -> the guided and thresholded prediction. The
        index, 0 to num_steps - 1, selects a guidance weight that varies over the steps.
      z_1: standard normal noise.
      logsnrs: rising grid of num_steps + 1 values, see `logsnr_grid`; the last is never
        evaluated.
      step_fn: a sampler.
      noise_fn: step index -> standard normal noise for the step.
      stochasticity: for `step_fn`.
    """
    num_steps = logsnrs.shape[0] - 1

    def body(z, step):
        index, logsnr_t, logsnr_s = step
        prediction = predict(z, logsnr_t, index)
        z_s = step_fn(z, prediction, logsnr_t, logsnr_s, noise_fn(index), stochasticity)
        # Inside the scan, not after it, so that the network is compiled once.
        return jnp.where(index == num_steps - 1, prediction.x0, z_s), None

    steps = (jnp.arange(num_steps), logsnrs[:-1], logsnrs[1:])
    x0, _ = jax.lax.scan(body, z_1, steps)
    return x0
