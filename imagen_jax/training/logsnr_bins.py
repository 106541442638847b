"""Bins of log-SNR: errors are followed by noise level, of which they depend most."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from imagen_jax.diffusion.schedule import NoiseSchedule

BIN_WIDTH = 5


def schedule_edges(schedule: NoiseSchedule) -> tuple[float, ...]:
    """Returns the multiples of `BIN_WIDTH` that enclose a schedule's log-SNRs, rising.

    Args:
      schedule: the stage's.
    """
    lowest, highest = (float(schedule.logsnr(jnp.float32(t))) for t in (1.0, 0.0))
    first = math.floor(lowest / BIN_WIDTH)
    last = max(math.ceil(highest / BIN_WIDTH), first + 1)
    return tuple(float(BIN_WIDTH * i) for i in range(first, last + 1))


def bin_members(
    logsnr: Float[Array, " n"], edges: Sequence[float]
) -> Bool[Array, "k n"]:
    """Returns which values are in which bin; what is outside is in the outermost one.

    Args:
      logsnr: the values.
      edges: k + 1 of them, rising; a value on an inner edge is in the bin above it.
    """
    bins = jnp.searchsorted(jnp.asarray(edges[1:-1]), logsnr, side="right")
    return bins[None] == jnp.arange(len(edges) - 1)[:, None]
