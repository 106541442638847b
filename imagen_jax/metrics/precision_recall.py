"""Precision and recall of generated pictures by manifolds of nearest neighbours.

The manifold of a set is the union of balls around its members, each as wide as the
distance to the member's k-th nearest neighbour in the set.

    precision = share of generated pictures inside the manifold of the real ones
    recall    = share of real pictures inside the manifold of the generated ones

Both depend on the number of pictures, so compare only figures of equal numbers.
Source: arXiv:1904.06991, equations 1 and 2, with k = 3 as its section 2 chooses.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

CHUNK = 1024  # rows whose distances are held at once


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1], and the k they were made with."""

    precision: float
    recall: float
    k: int


def precision_recall(
    real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "m d"], k: int = 3
) -> PrecisionRecall:
    """Returns both shares.

    Args:
      real: features of real pictures, more than `k`.
      generated: of generated ones, more than `k`.
      k: which neighbour bounds a ball, at least 1; the member itself does not count.

    Raises:
      ValueError: a set has not more than `k` rows.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(f"{len(real)} and {len(generated)} rows; each needs {k + 1}")
    # Distances do not change, but their rounding does: far from 0 it would be coarse.
    centre = real.mean(axis=0, dtype=np.float64)
    real, generated = real - centre, generated - centre
    return PrecisionRecall(
        _share_inside(generated, real, k), _share_inside(real, generated, k), k
    )


def _share_inside(
    rows: Float[np.ndarray, "n d"], members: Float[np.ndarray, "m d"], k: int
) -> float:
    """Returns the share of rows inside the manifold of the members."""
    radii = np.concatenate(
        [
            # Of a member's distances, sorted, the first is its own.
            np.partition(distances, k, axis=1)[:, k]
            for distances in _distances(members, members)
        ]
    )
    inside = [
        (distances <= radii).any(axis=1) for distances in _distances(rows, members)
    ]
    return float(np.concatenate(inside).mean())


def _distances(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]):
    """Yields squared distances [chunk m] of `a`'s rows from all of `b`, in order."""
    squares = np.square(b).sum(axis=1)
    for start in range(0, len(a), CHUNK):
        rows = a[start : start + CHUNK]
        distances = np.square(rows).sum(axis=1)[:, None] + squares - 2 * rows @ b.T
        yield np.maximum(distances, 0)
