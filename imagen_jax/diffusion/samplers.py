"""Samplers: from noise to a picture along a grid of log-SNRs.

Every sampler is one function with one signature, `SampleFn`: start from z_1 ~ N(0, I),
go down a grid of noise levels (`spacing`), and in the last step return the predicted x0
itself (arXiv:2205.11487, appendix A).

  ddpm      ancestral sampling; stochasticity is the paper's gamma
  ddim      stochasticity is eta; 0 is deterministic
  dpmpp_2m  DPM-Solver++ 2M; stochasticity 1 is its SDE form (`multistep`)
  unipc     UniPC-2, deterministic (`multistep`)
  heun      EDM's, two evaluations a step; stochasticity is its churn (`heun`)

None of them reads the network's eps. They move z by x0 alone, and eps is recomputed
from x0, so that thresholding x0 is consistent in all of them.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from imagen_jax.diffusion.heun import heun
from imagen_jax.diffusion.multistep import dpmpp_2m, unipc
from imagen_jax.diffusion.stepping import (
    Detour,
    Interval,
    NoiseFn,
    PredictFn,
    ddim_step,
    ddpm_step,
    march,
)

SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", "unipc", "heun")


@runtime_checkable
class SampleFn(Protocol):
    """A sampler: the whole way from noise to a picture."""

    def __call__(
        self,
        predict: PredictFn,
        z_1: Float[Array, "b h w c"],
        logsnrs: Float[Array, " n"],
        noise_fn: NoiseFn,
        stochasticity: float | Float[Array, ""],
        detour: Detour | None = None,
    ) -> Float[Array, "b h w c"]:
        """Returns the pictures at the end of the reverse process: the last x0.

        Args:
          predict: the network, guided and thresholded; called with (z, logsnr, step
            index).
          z_1: standard normal noise, or pictures noised to the first level.
          logsnrs: rising grid of num_steps + 1 values, see `spacing.logsnr_grid`; the
            last is never evaluated.
          noise_fn: visit -> standard normal noise for the step.
          stochasticity: in [0, 1], see each sampler; traced.
          detour: another way over the grid, see `stepping.march`; None = once down.
        """
        ...


def ddpm(
    predict: PredictFn,
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    noise_fn: NoiseFn,
    stochasticity: float | Float[Array, ""],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns pictures by ancestral sampling; stochasticity is the paper's gamma.

    Source: arXiv:2205.11487, appendix A.
    """

    def step(z, memory: tuple[()], at: Interval):
        found, noise = predict(z, at.logsnr_t, at.index), noise_fn(at.visit)
        z_s = ddpm_step(z, found, at.logsnr_t, at.logsnr_s, noise, stochasticity)
        return z_s, found.x0, memory

    return march(step, z_1, (), logsnrs, detour)


def ddim(
    predict: PredictFn,
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    noise_fn: NoiseFn,
    stochasticity: float | Float[Array, ""],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns pictures by DDIM; stochasticity is eta, 0 = deterministic.

    Source: arXiv:2205.11487, appendix A (eta 0); DDIM, arXiv:2010.02502, eq. 12 and 16.
    """

    def step(z, memory: tuple[()], at: Interval):
        found, noise = predict(z, at.logsnr_t, at.index), noise_fn(at.visit)
        z_s = ddim_step(z, found, at.logsnr_t, at.logsnr_s, noise, stochasticity)
        return z_s, found.x0, memory

    return march(step, z_1, (), logsnrs, detour)


def sample_fn(kind: str) -> SampleFn:
    """Returns the sampler that a config names, one of `SAMPLERS`.

    Raises:
      ValueError: on an unknown kind.
    """
    match kind:
        case "ddpm":
            return ddpm
        case "ddim":
            return ddim
        case "dpmpp_2m":
            return dpmpp_2m
        case "unipc":
            return unipc
        case "heun":
            return heun
        case _:
            raise ValueError(f"sampler {kind!r} is not one of {', '.join(SAMPLERS)}")
