"""Everything a run needs to go on exactly where it stopped, beside its config."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from imagen_jax.stage import Params, Stage
from imagen_jax.train_config import TrainConfig


class TrainState(NamedTuple):
    """The state of a run; a pytree.

    Attributes:
      step: steps taken, skipped ones included. It is also the state of the data and of
        the random numbers, which are functions of (seed, step).
      params: float32.
      ema_params: averages of `params`, by decay as text, e.g. "0.9999".
      opt_state: the optimizer's.
      num_skipped: updates that were not finite and so were not applied.
      num_skipped_in_row: the same since the last finite one.
    """

    step: Int[Array, ""]
    params: Params
    ema_params: dict[str, Params]
    opt_state: Any
    num_skipped: Int[Array, ""]
    num_skipped_in_row: Int[Array, ""]


def init_state(
    stage: Stage, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """Returns the state before the first step; the averages start at the parameters.

    Run it under `jax.eval_shape` for shapes, or jitted with output shardings so that no
    host ever holds a whole copy.
    """
    params = stage.init_params(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params={
            name: jax.tree.map(jnp.copy, params)
            for name in ema_names(stage.config.train)
        },
        opt_state=optimizer.init(params),
        num_skipped=jnp.zeros((), jnp.int32),
        num_skipped_in_row=jnp.zeros((), jnp.int32),
    )


def ema_names(config: TrainConfig) -> list[str]:
    """Returns the names under which the averages are kept; the first is the default."""
    return [str(decay) for decay in config.ema_decays]
