"""The noise levels at which a stage's sampler evaluates its network."""

import numpy as np
from jaxtyping import Float

from imagen_jax.diffusion.spacing import logsnr_grid
from imagen_jax.errors import UserError
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.stage import Stage


def make_grid(
    stage: Stage, config: SamplerConfig, start: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Returns the log-SNRs of the config's steps, strictly rising.

    Args:
      stage: its schedule is taken.
      config: spacing and number of steps.
      start: time in (0, 1] of the first; see `spacing.logsnr_grid`.

    Raises:
      UserError: they do not rise, because steps are too many or limits too narrow.
    """
    grid = np.asarray(
        logsnr_grid(
            stage.schedule,
            config.num_steps,
            config.spacing,
            limits=config.spacing_limits,
            rho=config.karras_rho,
            times=config.times,
            start=start,
        )
    )
    rises = np.diff(grid) > 0
    if not rises.all():
        place = int(np.argmin(rises))
        raise UserError(
            f"sampler.num_steps is {config.num_steps} with spacing "
            f"{config.spacing!r}: step {place} goes from log-SNR {grid[place]:.2f} to "
            f"{grid[place + 1]:.2f}, and the schedule of stage {stage.config.name} "
            "tells no more steps apart; take fewer steps, or wider "
            "sampler.spacing_limits or diffusion.schedule.logsnr_min and .logsnr_max"
        )
    return grid
