"""What an edit changes of one stage's sampling: its start, its pixels, its noise.

All arrays are traced arguments of the compiled sampler.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from imagen_jax.diffusion.editing import keep_known, slerp
from imagen_jax.diffusion.stepping import Detour
from imagen_jax.sampling.noise import (
    FIRST_JUMP,
    FIRST_KNOWN,
    DrawFn,
    field_noise_of,
    noise_of,
)
from imagen_jax.stage import Stage


class Repaint(NamedTuple):
    """Pixels to keep; see `diffusion.editing`.

    Attributes:
      known: pictures in [-1, 1] of the stage's size; kept bitwise where the mask is 0.
      mask: 1 where a pixel is to be drawn, else 0.
      steps: from `editing.resampling_steps`; only their number is static.
    """

    known: Float[Array, "b h w 3"]
    mask: Float[Array, "b h w 1"]
    steps: Int[Array | np.ndarray, " v"]


class Edit(NamedTuple):
    """What a call changes of plain sampling; what is None changes nothing.

    Attributes:
      start: pictures in [-1, 1] of the stage's size. They are noised to the first level
        of `SamplingParams.logsnrs` and sampled from there.
      repaint: pixels to keep.
      mix: other seeds, one per picture, and the share in [0, 1] of their noise: 0 gives
        the pictures of the seeds, 1 those of the others.
      offsets: row and column, in low-res pixels, of the tiles that the pictures are of
        larger ones. Seeds are then those of the larger pictures.
    """

    start: Float[Array, "b h w 3"] | None = None
    repaint: Repaint | None = None
    mix: tuple[UInt32[Array, " b"], Float[Array, " b"]] | None = None
    offsets: Int[Array | np.ndarray, "b 2"] | None = None


def draw_fn(stage: Stage, seeds: UInt32[Array, " b"], edit: Edit) -> DrawFn:
    """Returns the noise of the pictures, as the edit asks.

    Args:
      stage: gives the size of a picture and of its low-res picture.
      seeds: one per picture.
      edit: `mix` and `offsets` are read; tiles need a super-resolution stage.
    """
    size, cells = stage.config.resolution, stage.low_res_resolution

    def by_seed(seeds):
        if edit.offsets is None:
            return noise_of(seeds, size)
        return field_noise_of(seeds, size, jnp.asarray(edit.offsets), cells)

    noise = by_seed(seeds)
    if edit.mix is None:
        return noise
    other_seeds, share = edit.mix
    other = by_seed(other_seeds)
    return lambda purpose, shape: slerp(
        noise(purpose, shape), other(purpose, shape), share
    )


def detour(
    repaint: Repaint | None, logsnrs: Float[Array, " n"], noise: DrawFn
) -> Detour | None:
    """Returns the way over the grid that keeps the known pixels; None to keep none."""
    if repaint is None:
        return None
    known, shape = repaint.known, repaint.known.shape[1:]
    return keep_known(
        known,
        repaint.mask,
        logsnrs,
        repaint.steps,
        lambda visit: noise(FIRST_KNOWN + visit, shape),
        lambda visit: noise(FIRST_JUMP + visit, shape),
    )
