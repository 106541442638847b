"""How far the parameters and their averages moved between two moments of a run.

In place of a copy of the weights one random projection of each leaf is kept:
E[(r . d)^2] = |d|^2 for a vector r of random signs, and what did not move at all has
the very same projection.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from imagen_jax.parallel.sharding import replicated
from imagen_jax.training.state import TrainState

_SPREAD = np.uint32(0x9E3779B1)  # 2^32 / golden ratio, odd
_ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))  # MurmurHash3's last mixing


class MovementMeter:
    """Measures how far weights moved from one call of `measure` to the next."""

    def __init__(self, mesh: Mesh | None = None):
        """Remembers nothing yet.

        Args:
          mesh: the devices; None where the arrays are on one.
        """
        # Compiled for each shape of a leaf, not for the tree of hundreds of them.
        sharding = None if mesh is None else replicated(mesh)
        self._project = jax.jit(_project, out_shardings=sharding)
        self._before: dict[str, np.ndarray] = {}

    def measure(self, state: TrainState) -> dict[str, float]:
        """Returns how far weights moved since the last call, as a share of their size.

        Args:
          state: of the run; all of its processes call this together.

        Returns:
          By "params" and "ema/DECAY", exactly 0 for what did not move at all, else
          right to a factor of about 1.5; empty at the first call.
        """
        trees = {"params": state.params}
        trees |= {f"ema/{name}": ema for name, ema in state.ema_params.items()}
        projected = {
            name: [
                self._project(leaf, np.uint32(seed))
                for seed, leaf in enumerate(jax.tree.leaves(tree))
            ]
            for name, tree in trees.items()
        }
        after = {k: np.array(v) for k, v in jax.device_get(projected).items()}
        before, self._before = self._before, after
        return {
            name: float(np.linalg.norm(after[name] - old) / _size(after[name]))
            for name, old in before.items()
        }


def _size(values: Float[np.ndarray, " l"]) -> float:
    return float(np.linalg.norm(values)) + 1e-30


def _project(leaf: Float[Array, "..."], seed: Array) -> Float[Array, ""]:
    """Returns the sum of a leaf's elements with signs by a hash of place and seed.

    Element-wise, so that a sharded leaf stays where it is.
    """
    place = jnp.full(leaf.shape, seed)
    for axis in range(leaf.ndim):
        axis_place = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place * _SPREAD + axis_place
    for shift, factor in _ROUNDS:
        place = (place ^ (place >> np.uint32(shift))) * np.uint32(factor)
    signs = 1.0 - 2.0 * (place >> np.uint32(31)).astype(jnp.float32)
    return jnp.sum(signs * leaf)
