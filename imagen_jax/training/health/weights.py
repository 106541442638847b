"""How far the parameters and their averages moved between two moments of a run.

In place of a copy of the weights two numbers of each leaf are kept. One is a random
projection: E[(r . d)^2] = |d|^2 for a vector r of random signs. Its last bits depend on
the order of the sum, so the other is a checksum of the bits: what did not move at all
has the very same.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt32

from imagen_jax.parallel.checksums import checksum, mixed_places
from imagen_jax.parallel.sharding import replicated
from imagen_jax.training.state import TrainState


class Trace(NamedTuple):
    """What is remembered of the leaves of a tree."""

    projections: Float[np.ndarray, " l"]
    checksums: UInt32[np.ndarray, " l"]


class MovementMeter:
    """Measures how far weights moved from one call of `measure` to the next."""

    def __init__(self, mesh: Mesh | None = None):
        """Remembers nothing yet.

        Args:
          mesh: the devices; None where the arrays are on one.
        """
        # Compiled for each shape of a leaf, not for the tree of hundreds of them.
        sharding = None if mesh is None else replicated(mesh)
        self._trace = jax.jit(_trace, out_shardings=sharding)
        self._before: dict[str, Trace] = {}

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
        # One after another; `parallel.checksums` has the reason.
        traced = {
            name: [
                jax.device_get(self._trace(leaf, np.uint32(seed)))
                for seed, leaf in enumerate(jax.tree.leaves(tree))
            ]
            for name, tree in trees.items()
        }
        after = {
            name: Trace(*map(np.array, zip(*leaves, strict=True)))
            for name, leaves in traced.items()
        }
        before, self._before = self._before, after
        return {name: _share_moved(before[name], after[name]) for name in before}


def _share_moved(before: Trace, after: Trace) -> float:
    if (before.checksums == after.checksums).all():
        return 0.0
    moved = np.linalg.norm(after.projections - before.projections)
    return float(moved / (np.linalg.norm(after.projections) + 1e-30))


def _trace(
    leaf: Float[Array, "..."], seed: UInt32[Array, ""]
) -> tuple[Float[Array, ""], UInt32[Array, ""]]:
    """Returns the sum of a leaf's elements with random signs, and a checksum.

    Both are element-wise but for a sum, so that a sharded leaf stays where it is.
    """
    leaf = leaf.astype(jnp.float32)
    places = mixed_places(leaf.shape, seed)
    signs = 1.0 - 2.0 * (places >> np.uint32(31)).astype(jnp.float32)
    return jnp.sum(signs * leaf), checksum(leaf, places)
