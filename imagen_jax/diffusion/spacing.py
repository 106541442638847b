"""Step spacing: the log-SNRs at which a sampler evaluates the network.

A grid of n steps is n + 1 rising log-SNRs from noise to clean. A sampler evaluates the
network at the first n; the last is only where the final step would end, and is never
evaluated, because the final step returns the predicted x0 itself.

  uniform_t       times evenly from 1 to 0: the paper's (arXiv:2205.11487, appendix A)
  uniform_logsnr  log-SNRs evenly between two limits (DPM-Solver, arXiv:2206.00927)
  karras          sigma^(1 / rho) evenly between two limits, with sigma = the noise over
                  the picture = exp(-logsnr / 2) (EDM, arXiv:2206.00364, eq. 5)
  explicit        a list of times, as published for a model

A schedule may run to log-SNR -20, where nothing of the picture is left. Evenly spaced
log-SNRs would waste a third of their steps there, so the second and third kind keep to
limits, by default EDM's sigmas from 80 to 0.002, and to the schedule's own ends.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.diffusion.schedule import NoiseSchedule

SPACINGS = ("uniform_t", "uniform_logsnr", "karras", "explicit")
EDM_LIMITS = (-2.0 * math.log(80.0), -2.0 * math.log(0.002))  # -8.76 and 12.43


def uniform_t(
    schedule: NoiseSchedule, num_steps: int, start: float = 1.0
) -> Float[Array, " n"]:
    """Returns the log-SNRs at num_steps + 1 times evenly spaced from `start` to 0."""
    return schedule.logsnr(jnp.linspace(start, 0.0, num_steps + 1))


def uniform_logsnr(
    schedule: NoiseSchedule,
    num_steps: int,
    limits: Sequence[float] = EDM_LIMITS,
    start: float = 1.0,
) -> Float[Array, " n"]:
    """Returns num_steps + 1 evenly spaced log-SNRs.

    Args:
      schedule: its ends narrow the limits.
      num_steps: at least 1.
      limits: lowest and highest log-SNR.
      start: time of the first level; it narrows the limits too.
    """
    low, high = _limited(schedule, limits, start)
    return low + (high - low) * jnp.linspace(0.0, 1.0, num_steps + 1)


def karras(
    schedule: NoiseSchedule,
    num_steps: int,
    limits: Sequence[float] = EDM_LIMITS,
    rho: float = 7.0,
    start: float = 1.0,
) -> Float[Array, " n"]:
    """Returns the num_steps + 1 log-SNRs whose sigma^(1 / rho) are evenly spaced.

    Differs from the paper in the lowest sigma, which EDM evaluates as well, before a
    step to sigma 0.

    Args:
      schedule: its ends narrow the limits.
      num_steps: at least 1.
      limits: lowest and highest log-SNR.
      rho: 1 spaces sigma evenly; the larger, the more steps at low noise; EDM's is 7.
      start: time of the first level; it narrows the limits too.

    Source: EDM, arXiv:2206.00364, eq. 5.
    """
    low, high = _limited(schedule, limits, start)
    most, least = (jnp.exp(-0.5 * logsnr / rho) for logsnr in (low, high))
    root = most + (least - most) * jnp.linspace(0.0, 1.0, num_steps + 1)
    return -2.0 * rho * jnp.log(root)


def explicit(schedule: NoiseSchedule, times: Sequence[float]) -> Float[Array, " n"]:
    """Returns the log-SNRs at listed times and at time 0.

    Args:
      schedule: maps times to log-SNRs.
      times: where the network is evaluated, one per step, falling, in (0, 1]. Timestep
        i of a model with 1000 discrete ones is (i + 1) / 1000.
    """
    return schedule.logsnr(jnp.array([*times, 0.0], jnp.float32))


def _limited(
    schedule: NoiseSchedule, limits: Sequence[float], start: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    ends = schedule.logsnr(jnp.array([start, 0.0]))
    low = jnp.maximum(ends[0], limits[0])
    # A start that is cleaner than the upper limit leaves what the schedule has above.
    high = jnp.where(low < limits[1], jnp.minimum(ends[1], limits[1]), ends[1])
    return low, high


def logsnr_grid(
    schedule: NoiseSchedule,
    num_steps: int,
    spacing: str = "uniform_t",
    *,
    limits: Sequence[float] = EDM_LIMITS,
    rho: float = 7.0,
    times: Sequence[float] = (),
    start: float = 1.0,
) -> Float[Array, " n"]:
    """Returns the grid that a config names: num_steps + 1 log-SNRs.

    They rise strictly, unless the schedule or float32 cannot tell so many apart.

    Args:
      schedule: of the stage.
      num_steps: of the sampler, at least 1.
      spacing: one of `SPACINGS`.
      limits: for "uniform_logsnr" and "karras".
      rho: for "karras".
      times: for "explicit", num_steps of them.
      start: time in (0, 1] of the first level, where a picture rather than noise is to
        be sampled from. All steps are then taken between `start` and 0.

    Raises:
      ValueError: on an unknown spacing.
    """
    match spacing:
        case "uniform_t":
            return uniform_t(schedule, num_steps, start)
        case "uniform_logsnr":
            return uniform_logsnr(schedule, num_steps, limits, start)
        case "karras":
            return karras(schedule, num_steps, limits, rho, start)
        case "explicit":
            return explicit(schedule, [start * time for time in times])
        case _:
            raise ValueError(f"spacing {spacing!r} is not one of {', '.join(SPACINGS)}")
