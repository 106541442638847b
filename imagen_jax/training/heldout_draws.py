"""The times of the held-out loss, and how each counts.

The loss is the mean over t in [0, 1], as in training. But a bin of log-SNR may hold one
t in 3000 (-20 to -15 under the cosine schedule), so half of the times are drawn from
the bins alike, and each counts by importance:

  p(t) = 1/2 + 1/2 (1/K) / |bin of t|,    E_t[loss] = E_p[loss / p],

with K bins and |.| a bin's length in t. The N = count x times draws fill N equally
probable strata, one each, and each picture has one time in each of `times` consecutive
ranges of strata. All follows from the seed.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagen_jax.diffusion.schedule import NoiseSchedule
from imagen_jax.stage import Stage
from imagen_jax.training.logsnr_bins import bin_members, schedule_edges

HELDOUT_LOSS = "heldout/loss"  # the metric that says which step is the best


def draw_means(
    stage: Stage, count: int
) -> tuple[list[str], Float[np.ndarray, "times n"], Float[np.ndarray, "k times n"]]:
    """Returns the names of the k means, the times, and their weights in each mean.

    Args:
      stage: the stage.
      count: n, the number of pictures.
    """
    edges = schedule_edges(stage.schedule)
    shape = (stage.config.heldout.times, count)
    times, importance = draw_times(stage.schedule, edges, shape, stage.config.seed)
    logsnr = stage.schedule.logsnr(jnp.asarray(times.reshape(-1)))
    members = np.asarray(bin_members(logsnr, edges))
    names, rows = [HELDOUT_LOSS], [importance.reshape(-1)]
    for (low, high), row in zip(itertools.pairwise(edges), members, strict=True):
        if row.any():
            names.append(f"{HELDOUT_LOSS}_logsnr_{low:.0f}_{high:.0f}")
            rows.append(row.astype(float))
    weights = np.stack([row / row.sum() for row in rows])
    return names, times, weights.reshape(-1, *shape).astype(np.float32)


def draw_times(
    schedule: NoiseSchedule,
    edges: tuple[float, ...],
    shape: tuple[int, int],
    seed: int,
) -> tuple[Float[np.ndarray, "times count"], Float[np.ndarray, "times count"]]:
    """Returns stratified times in [0, 1], float32, and the importance 1 / p of each.

    Args:
      schedule: the stage's.
      edges: of the log-SNR bins, rising.
      shape: noise levels per picture, pictures.
      seed: of the draws.
    """
    # Noise levels and the shares of the draws below them, both rising from 0 to 1.
    knots = np.asarray(schedule.t(jnp.asarray(edges[::-1])), np.float64)
    knots[0], knots[-1] = 0.0, 1.0
    shares = (knots + np.linspace(0.0, 1.0, len(knots))) / 2
    bits = np.random.Philox(np.random.SeedSequence((seed, 0, 2)))  # 2: see `data.crops`
    rng = np.random.Generator(bits)
    strata = rng.permuted(np.arange(np.prod(shape)).reshape(shape), axis=1)
    place = (strata + rng.random(shape)) / np.prod(shape)
    importance = np.diff(knots) / np.diff(shares)
    part = np.searchsorted(shares[1:-1], place, side="right")
    times = np.interp(place, shares, knots).astype(np.float32)
    return times, importance[part]
