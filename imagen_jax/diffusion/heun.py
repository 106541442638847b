"""Heun's method of second order, as in EDM (arXiv:2206.00364, algorithms 1 and 2).

EDM writes the reverse process in x = z / alpha and sigma = the noise over the picture =
exp(-logsnr / 2), where the ODE is dx / dsigma = d = (x - x0) / sigma, and d is eps. A
step from sigma_t to sigma_s is

  x'  = x + (sigma_s - sigma_t) d                          Euler
  x_s = x + (sigma_s - sigma_t) (d + d') / 2               Heun, with d' from x0 at x'

The Euler step is DDIM's. It leaves x on a line, so d - d' = (x0' - x0) / sigma_s, and
the second step is DDIM's too, towards

  x0 + (q / 2) (x0' - x0),  q = sigma_t / sigma_s

which is how it is written here: in z, so that no number is large where alpha is small.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.diffusion.process import raise_noise
from imagen_jax.diffusion.stepping import (
    Detour,
    Interval,
    NoiseFn,
    PredictFn,
    march,
    move_towards,
)

# EDM starts at sigma 80, log-SNR -8.76. A schedule may start far above; a step from
# there spans a large q, and x0' - x0 would be multiplied by half of it.
LOWEST_CORRECTED = -9.0
S_CHURN = 80.0  # at stochasticity 1; the largest that the paper uses
MOST_CHURN = math.sqrt(2.0) - 1.0  # of sigma in one step


def heun(
    predict: PredictFn,
    z_1: Float[Array, "b h w c"],
    logsnrs: Float[Array, " n"],
    noise_fn: NoiseFn,
    stochasticity: float | Float[Array, ""],
    detour: Detour | None = None,
) -> Float[Array, "b h w c"]:
    """Returns pictures by EDM's sampler; see `samplers.SampleFn`.

    Each step evaluates the network twice, the second time with the next step's index;
    the last step, which returns x0, and steps from below `LOWEST_CORRECTED` once.

    Stochasticity times `S_CHURN` is EDM's churn: before each step but the first, new
    noise raises sigma by the share churn / num_steps, at most `MOST_CHURN`. Differs
    from the paper in that S_tmin, S_tmax and S_noise are left out (0, inf and 1).

    Source: arXiv:2206.00364, algorithms 1 (stochasticity 0) and 2.
    """
    num_steps = logsnrs.shape[0] - 1
    churn = jnp.minimum(stochasticity * S_CHURN / num_steps, MOST_CHURN)

    def step(z, memory: tuple[()], at: Interval):
        raised = jnp.where(at.index == 0, 0.0, jnp.log1p(churn))
        logsnr = at.logsnr_t - 2.0 * raised
        z = raise_noise(z, noise_fn(at.visit), at.logsnr_t, logsnr)
        half_q = 0.5 * jnp.exp(0.5 * (at.logsnr_s - logsnr))

        def evaluate(i, x0):
            euler = move_towards(x0, z, logsnr, at.logsnr_s)
            found = predict(
                jnp.where(i == 0, z, euler),
                jnp.where(i == 0, logsnr, at.logsnr_s),
                at.index + i,
            ).x0
            return jnp.where(i == 0, found, x0 + half_q * (found - x0))

        # A loop, so that the network is compiled once.
        corrected = (at.index < num_steps - 1) & (at.logsnr_t > LOWEST_CORRECTED)
        num = jnp.where(corrected, 2, 1)
        x0 = jax.lax.fori_loop(0, num, evaluate, jnp.zeros_like(z))
        return move_towards(x0, z, logsnr, at.logsnr_s), x0, memory

    return march(step, z_1, (), logsnrs, detour)
