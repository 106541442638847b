"""Editing: sampling that starts from a picture, keeps a part of it, or mixes two seeds.

Image to image (SDEdit, arXiv:2108.01073) noises a picture to the level of time
`strength` (`process.diffuse`) and samples from there; the grid is `spacing.logsnr_grid`
with that start.

Inpainting (RePaint, arXiv:2201.09865, algorithm 1) puts the known pixels back after
each step, noised anew to the level the step reached:

  z_s <- mask z_s + (1 - mask) (alpha_s known + sigma_s eps)

What the step drew at the unknown pixels was conditioned on other known ones, so the two
parts fit badly. RePaint therefore jumps back: after `jump` steps, noise is added by the
forward process to the level where they began, and they are taken again, `repeats` times
in all. With ever more repeats the unknown pixels approach their distribution given the
known ones.

Variations draw their noise between that of two seeds, on the sphere (`slerp`).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagen_jax.diffusion.process import diffuse, expand, raise_noise
from imagen_jax.diffusion.stepping import Detour, Interval, NoiseFn


def resampling_steps(num_steps: int, jump: int, repeats: int) -> Int[np.ndarray, " v"]:
    """Returns the index of the step at each visit of RePaint's way over a grid.

    The grid is cut into stretches of `jump` steps, each taken `repeats` times before
    the next; their product with the stretches is the number of network evaluations.

    Args:
      num_steps: of the grid, at least 1.
      jump: steps of a stretch, at least 1 (j of the paper, which uses 10 of 250).
      repeats: at least 1 (r of the paper, which uses 10); 1 takes each step once.

    Source: arXiv:2201.09865, section 4.2 and appendix on the resampling schedule.
    Differs in the last stretch, down to the picture, which is repeated too.
    """
    starts = range(0, num_steps, jump)
    stretches = [np.arange(start, min(start + jump, num_steps)) for start in starts]
    return np.concatenate([np.tile(stretch, repeats) for stretch in stretches])


def keep_known(
    known: Float[Array, "b h w c"],
    mask: Float[Array, "b h w 1"],
    logsnrs: Float[Array, " n"],
    steps: Int[Array | np.ndarray, " v"],
    known_noise_fn: NoiseFn,
    jump_noise_fn: NoiseFn,
) -> Detour:
    """Returns RePaint's detour: jumps back between steps, known pixels after each.

    Args:
      known: pictures in [-1, 1]; read where the mask is 0.
      mask: 1 where a pixel is to be drawn, 0 where it is known.
      logsnrs: the grid, see `stepping.march`.
      steps: from `resampling_steps`.
      known_noise_fn: visit -> the noise of the known pixels after it.
      jump_noise_fn: visit -> the noise of the jump before it.

    Source: arXiv:2201.09865, algorithm 1.
    """
    steps = jnp.asarray(steps)
    # After the last step of the grid there is a picture, without noise.
    reached = logsnrs.at[-1].set(jnp.inf)[1:]
    left_from = jnp.append(logsnrs[steps[:1]], reached[steps[:-1]])

    def before(z: Float[Array, "b h w c"], at: Interval) -> Float[Array, "b h w c"]:
        level = left_from[at.visit]  # that of z; without a jump the step's own
        return raise_noise(z, jump_noise_fn(at.visit), level, at.logsnr_t)

    def after(z: Float[Array, "b h w c"], at: Interval) -> Float[Array, "b h w c"]:
        noised = diffuse(known, known_noise_fn(at.visit), reached[at.index])
        return jnp.where(mask > 0, z, noised)

    return Detour(steps, before, after)


def slerp(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"], share: Float[Array, " b"]
) -> Float[Array, "*shape"]:
    """Returns the point at `share` of the way from a to b, along a great circle.

    With Omega the angle between the two,

      sin((1 - share) Omega) / sin Omega a + sin(share Omega) / sin Omega b

    Noise of two seeds is nearly orthogonal and of equal length, and so is as long
    everywhere between; on a straight line it would lose up to half of its variance.

    Args:
      a: noise; returned bitwise at share 0.
      b: other noise; returned bitwise at share 1. Where it is the same as `a`, so is
        the result.
      share: one per picture, in [0, 1].

    Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.
    """
    axes = tuple(range(1, a.ndim))

    def dot(x, y):
        return jnp.sum(x * y, axis=axes)

    cosine = dot(a, b) / jnp.sqrt(dot(a, a) * dot(b, b))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    sine = jnp.sin(angle)
    parallel = sine < 1e-3  # then a straight line, which needs no division
    sine = jnp.where(parallel, 1.0, sine)
    weight_a = jnp.where(parallel, 1.0 - share, jnp.sin((1.0 - share) * angle) / sine)
    weight_b = jnp.where(parallel, share, jnp.sin(share * angle) / sine)
    return expand(weight_a, a) * a + expand(weight_b, b) * b
