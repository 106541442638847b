"""Exponential moving averages of the parameters.

    ema <- d ema + (1 - d) params,    d = min(decay, (1 + n) / (10 + n))

after update n = 0, 1, ... Without the warm-up an average with decay 0.9999 would show
the initial parameters for ten thousand steps. Only parameters are averaged: schedules
and other tables are not parameters here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagen_jax.stage import Params


def ema_decay(decay: float, num_updates: Int[Array, ""]) -> Float[Array, ""]:
    """Returns the decay to use at an update, warmed up.

    Args:
      decay: its final value, in [0, 1).
      num_updates: updates applied before this one.
    """
    n = num_updates.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + n) / (10.0 + n))


def update_ema(
    ema_params: dict[str, Params], params: Params, num_updates: Int[Array, ""]
) -> dict[str, Params]:
    """Returns the averages after one more update; the keys are the decays."""

    def average(name: str, ema: Params) -> Params:
        d = ema_decay(float(name), num_updates)
        return jax.tree.map(lambda e, p: e + (1.0 - d) * (p - e), ema, params)

    return {name: average(name, ema) for name, ema in ema_params.items()}
