"""Multistep solvers: DPM-Solver++ 2M and UniPC, one network evaluation a step.

Half the log-SNR is the papers' lambda, and h its rise over a step. In that time the
reverse ODE of z / sigma has the right-hand side e^lambda x0(z, lambda), so a step from
t to s is

  z_s = (sigma_s / sigma_t) z_t + sigma_s int_t^s e^lambda x0 dlambda.

With x0 constant this is the DDIM step. x0 is known at the levels already visited, so it
can be continued as a straight line; both papers' updates are then the DDIM step towards
another x0, and that is how they are written here:

  DPM-Solver++ 2M  x = x0 + (h / 2 h_before) (x0 - x0_before)
  UniPC            first repeats the step that led to t, now that x0 at t is known
                   (the corrector), then predicts as DPM-Solver++ 2M does

Only predicted x0 are remembered, and those are thresholded, so thresholding holds at
every order.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.diffusion.parameterization import eps_from_x0
from imagen_jax.diffusion.stepping import (
    Detour,
    Interval,
    NoiseFn,
    PredictFn,
    ddim_step,
    march,
    move_towards,
)
from imagen_jax.interfaces import Prediction


class Evaluated(NamedTuple):
    """An x0 and the log-SNR at which it was predicted."""

    x0: Float[Array, "b h w c"]
    logsnr: Float[Array, ""]


class Past(NamedTuple):
    """What UniPC remembers.

    Attributes:
      z: noisy pictures one step before, corrected.
      before: the evaluation one step before.
      two_before: the evaluation two steps before.
    """

    z: Float[Array, "b h w c"]
    before: Evaluated
    two_before: Evaluated


def dpmpp_2m(
    predict: PredictFn,
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    noise_fn: NoiseFn,
    stochasticity: float | Float[Array, ""],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns pictures by DPM-Solver++ 2M; see `samplers.SampleFn`.

    The first step has no predecessor and is of first order, and so is the last, which
    returns x0. Stochasticity 1 is the SDE form, SDE-DPM-Solver++ 2M, whose step is the
    ancestral one towards the same x0; between 0 and 1, as DDIM's eta.

    Source: arXiv:2211.01095, DPM-Solver++(2M) and SDE-DPM-Solver++(2M).
    """

    def step(z, before: Evaluated, at: Interval):
        now = Evaluated(predict(z, at.logsnr_t, at.index).x0, at.logsnr_t)
        x0 = continued_x0(now, before, at)
        z_s = ddim_step(
            z,
            Prediction(x0, eps_from_x0(z, x0, at.logsnr_t)),
            at.logsnr_t,
            at.logsnr_s,
            noise_fn(at.visit),
            stochasticity,
        )
        return z_s, now.x0, now

    return march(step, z_1, _nothing_before(z_1, logsnrs), logsnrs, detour)


def unipc(
    predict: PredictFn,
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    noise_fn: NoiseFn,
    stochasticity: float | Float[Array, ""],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns pictures by UniPC-2 with B(h) = e^h - 1; see `samplers.SampleFn`.

    Deterministic: `noise_fn` and `stochasticity` have no effect. The corrector takes no
    evaluation of its own: it uses the one that the next prediction needs anyway.

    Source: arXiv:2302.04867, UniC-2 and UniP-2 for data prediction.
    """
    del noise_fn, stochasticity

    def step(z, past: Past, at: Interval):
        now = Evaluated(predict(z, at.logsnr_t, at.index).x0, at.logsnr_t)
        z = jnp.where(at.age == 0, z, corrected_z(now, past, at))
        x0 = continued_x0(now, past.before, at)
        z_s = move_towards(x0, z, at.logsnr_t, at.logsnr_s)
        return z_s, now.x0, Past(z, now, past.before)

    none = _nothing_before(z_1, logsnrs)
    earlier = none._replace(logsnr=none.logsnr - 1.0)
    return march(step, z_1, Past(z_1, none, earlier), logsnrs, detour)


def continued_x0(
    now: Evaluated, before: Evaluated, at: Interval
) -> Float[Array, "b h w c"]:
    """Returns x0 continued to the middle of the step, by the line through two of them.

    The first step, `at.age` 0, has no evaluation before it and keeps x0.

    Source: arXiv:2211.01095, D_i of DPM-Solver++(2M).
    """
    reach = (at.logsnr_s - at.logsnr_t) / (2.0 * (now.logsnr - before.logsnr))
    reach = jnp.where(at.age == 0, 0.0, reach)
    return now.x0 + reach * (now.x0 - before.x0)


def corrected_z(now: Evaluated, past: Past, at: Interval) -> Float[Array, "b h w c"]:
    """Returns z at t anew: the step that led here, with the x0 found at its end.

    The paper's weights a_1, a_2 of the differences D_1 / r_1 (from two steps before)
    and D_2 (from this one) solve a_1 + a_2 = b_1, r_1 a_1 + a_2 = b_2, where

      b_1 = 1 / (1 - e^-h) - 1 / h = (1 + L(h / 2)) / 2
      b_1 - b_2 = L(h / 2) / h,  L(x) = coth x - 1 / x

    At the second step, `at.age` 1, there is no x0 from two steps before; a_2 is then
    1/2, as in the authors' code.

    Source: arXiv:2302.04867, UniC-2.
    """
    before, earlier = past.before, past.two_before
    rise = now.logsnr - before.logsnr
    h = 0.5 * rise
    difference = jnp.where(  # b_1 - b_2; its closed form cancels at small h
        h < 1.0,
        1.0 / 6.0 - h**2 / 360.0 + h**4 / 15120.0,
        (1.0 / jnp.tanh(0.5 * h) - 2.0 / h) / h,
    )
    r_1 = (earlier.logsnr - before.logsnr) / rise  # negative
    a_1 = jnp.where(at.age == 1, 0.0, difference / (1.0 - r_1))
    a_2 = jnp.where(at.age == 1, 0.5, 0.5 + 0.5 * h * difference - a_1)
    x0 = before.x0 + a_1 / r_1 * (earlier.x0 - before.x0) + a_2 * (now.x0 - before.x0)
    return move_towards(x0, past.z, before.logsnr, now.logsnr)


def _nothing_before(
    z_1: Float[Array, "b h w c"], logsnrs: Float[Array, " n"]
) -> Evaluated:
    """Returns what stands in a sampler's memory until there is something."""
    return Evaluated(jnp.zeros_like(z_1), logsnrs[0] - 1.0)
