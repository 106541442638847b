"""What samplers are made of: two steps from z_t to z_s, and the loop over a grid.

  ddpm  z_s = mean + std noise, the ancestral step of `process.posterior`
  ddim  z_s = alpha_s x0 + sqrt(sigma_s^2 - std^2) eps + std noise, with
        std = eta sqrt(1 - r) sigma_s; eta = 0 is the paper's deterministic form
        alpha_s x0 + (sigma_s / sigma_t) (z_t - alpha_t x0) (arXiv:2010.02502, eq. 12)

Both read `prediction.x0` only: the eps they need is the one that belongs to z and that
x0. Mixing the network's eps with a thresholded x0 is thereby impossible.

Solvers of higher order take the same steps, towards a better x0 than the one predicted
at z_t: at a fixed x0 the DDIM step is the exact solution of the reverse ODE, and an x0
that is not constant over the step enters as its average (`multistep`, `heun`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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
from imagen_jax.interfaces import Prediction

Picture = Float[Array, "b h w c"]
PredictFn = Callable[[Picture, Float[Array, ""], Int[Array, ""]], Prediction]
"""(z, logsnr, step index) -> the guided and thresholded prediction.

The index, 0 to num_steps - 1, selects what varies over the steps, e.g. a guidance
weight.
"""
NoiseFn = Callable[[Int[Array, ""]], Picture]
"""visit -> standard normal noise for it; without repeated steps, the step's index."""


class Interval(NamedTuple):
    """One step of a grid, from the noisier level t to the cleaner level s.

    Attributes:
      index: of the step in the grid; it selects what varies over the steps.
      logsnr_t: log-SNR before the step.
      logsnr_s: log-SNR after it.
      visit: how many steps were taken before; it selects the noise. The same as
        `index`, unless steps are repeated.
      age: how many steps were taken since the first, or since the last jump back: all
        that a solver remembers.
    """

    index: Int[Array, ""]
    logsnr_t: Float[Array, ""]
    logsnr_s: Float[Array, ""]
    visit: Int[Array, ""]
    age: Int[Array, ""]


class Detour(NamedTuple):
    """Another way over the grid than once from noise to clean; see `editing`.

    Attributes:
      steps: index of the step that each visit takes; the last is num_steps - 1.
      before: applied to z before each step, with the step that follows.
      after: applied to z after each step, with the step just taken. After the last step
        of the grid, z is the picture that was predicted.
    """

    steps: Int[Array, " v"]
    before: Callable[[Picture, Interval], Picture]
    after: Callable[[Picture, Interval], Picture]


def ddpm_step(
    z: Float[Array, "b h w c"],
    prediction: Prediction,
    logsnr_t: PerPicture,
    logsnr_s: PerPicture,
    noise: Float[Array, "b h w c"],
    stochasticity: float | Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns z_s by the ancestral step; stochasticity is the paper's gamma.

    gamma 0 is DDPM's "fixed small" variance, 1 its "fixed large"; both add noise. The
    paper does not say which it used.

    Args:
      z: noisy pictures at t.
      prediction: the network's, guided and thresholded.
      logsnr_t: log-SNR of z.
      logsnr_s: log-SNR of the result, at least `logsnr_t`.
      noise: standard normal.
      stochasticity: gamma, in [0, 1].

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
    """Returns z_s by the DDIM step; stochasticity is eta.

    eta 0 is deterministic (`noise` has no effect), 1 equals `ddpm_step` with gamma 0.

    Args:
      z: noisy pictures at t.
      prediction: the network's, guided and thresholded.
      logsnr_t: log-SNR of z.
      logsnr_s: log-SNR of the result, at least `logsnr_t`.
      noise: standard normal.
      stochasticity: eta, in [0, 1].

    Source: arXiv:2205.11487, appendix A (eta 0); DDIM, arXiv:2010.02502, eq. 12 and 16.
    """
    eps = eps_from_x0(z, prediction.x0, logsnr_t)
    alpha_s, sigma_s = alpha_sigma(expand(logsnr_s, z))
    renewed = stochasticity**2 * expand(posterior_share(logsnr_t, logsnr_s), z)
    kept = sigma_s * jnp.sqrt(1.0 - renewed)
    return alpha_s * prediction.x0 + kept * eps + sigma_s * jnp.sqrt(renewed) * noise


def move_towards(
    x0: Float[Array, "b h w c"],
    z: Float[Array, "b h w c"],
    logsnr_t: Float[Array, ""],
    logsnr_s: Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns z_s by the deterministic DDIM step: the exact solution at a fixed x0."""
    prediction = Prediction(x0, eps_from_x0(z, x0, logsnr_t))
    return ddim_step(z, prediction, logsnr_t, logsnr_s, jnp.zeros_like(z), 0.0)


def march(
    step: Callable[[Picture, Any, Interval], tuple[Picture, Picture, Any]],
    z_1: Float[Array, "b h w c"],
    memory: Any,
    logsnrs: Float[Array, " n"],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the x0 predicted in the last step of a sampler.

    Args:
      step: (z, memory, interval) -> (z_s, the x0 predicted at z, memory): one step of
        a sampler and what it remembers for the next.
      z_1: standard normal noise, or pictures at the first level.
      memory: before the first step; a pytree of arrays, () for none.
      logsnrs: rising grid of num_steps + 1 values, see `spacing.logsnr_grid`; the last
        is never evaluated.
      detour: which steps are taken in which order, and what is done between them; None
        takes each once.
    """
    num_steps = logsnrs.shape[0] - 1

    def body(carry: tuple[Picture, Any], at: Interval):
        z_s, x0, after = step(*carry, at)
        # Inside the scan, not after it, so that the network is compiled once.
        return (jnp.where(at.index == num_steps - 1, x0, z_s), after), None

    def visit(carry: tuple[Picture, Any], at: Interval):
        assert detour is not None
        z, past = carry
        past = jax.tree.map(lambda a, b: jnp.where(at.age == 0, a, b), memory, past)
        (z, past), _ = body((detour.before(z, at), past), at)
        return (detour.after(z, at), past), None

    if detour is None:
        levels = (jnp.arange(num_steps), logsnrs[:-1], logsnrs[1:])
        once = jax.lax.scan(
            lambda carry, at: body(carry, Interval(*at, visit=at[0], age=at[0])),
            (z_1, memory),
            levels,
        )
        return once[0][0]
    index, count = detour.steps, jnp.arange(len(detour.steps))
    jumped = index != jnp.roll(index, 1) + 1
    age = count - jax.lax.cummax(jnp.where(jumped, count, 0))
    intervals = Interval(index, logsnrs[index], logsnrs[index + 1], count, age)
    return jax.lax.scan(visit, (z_1, memory), intervals)[0][0]
