"""Kernel distance: the squared maximum mean discrepancy of two sets of features.

    k(x, y) = (x.y / d + 1)^3
    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)

Without the pairs i = j it is unbiased: for two sets of one distribution it is 0 on
average at any size, and may be negative. The mean over random subsets of one size is
printed with their standard deviation. On Inception features it is KID.
Source: arXiv:1801.01401, section 4; subsets of 1,000 as in its experiments.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SUBSET_SIZE = 1000
NUM_SUBSETS = 100
GROUPS = 16  # of rows that the jackknife leaves out in turn


class KernelDistance(NamedTuple):
    """The estimate.

    Attributes:
      value: mean of MMD^2 over the subsets (not multiplied by 1000).
      std: standard deviation over the subsets, not the error of `value`, which is
        smaller; None of a single subset.
      subset_size: rows of each set in a subset.
      num_subsets: how many there were.
    """

    value: float
    std: float | None
    subset_size: int
    num_subsets: int


def kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KernelDistance:
    """Returns the estimate over random subsets, drawn without repetition inside one.

    Args:
      a: features of one set, at least 2 rows.
      b: of the other.
      num_subsets: at least 1. Where a subset would be both sets as a whole, one is
        enough.
      subset_size: at least 2; cut to the smaller set.
      seed: of the subsets.

    Raises:
      ValueError: a set has fewer than 2 rows.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise ValueError(f"{len(a)} and {len(b)} rows; each set needs 2")
    if size == len(a) == len(b):
        num_subsets = 1
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(
            a[rng.choice(len(a), size, replace=False)],
            b[rng.choice(len(b), size, replace=False)],
        )
        for _ in range(num_subsets)
    ]
    std = float(np.std(values)) if num_subsets > 1 else None
    return KernelDistance(float(np.mean(values)), std, size, num_subsets)


def squared_mmd(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Returns the unbiased MMD^2 of two sets as a whole, float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return _pairs_mean(a) + _pairs_mean(b) - 2 * float(_kernel(a, b).mean())


def jackknifed_mmd(
    made: Float[np.ndarray, "n d"], real: Float[np.ndarray, "m d"]
) -> tuple[float, float]:
    """Returns MMD^2 of all rows, and its standard error over the rows of `made`.

    By a jackknife that leaves out a sixteenth of them at a time, `real` being fixed.

    Args:
      made: at least 4 rows; row i is of group i mod `GROUPS`.
      real: at least 2.

    Source: B. Efron, C. Stein, Ann. Statist. 9 (1981), 586.
    """
    groups = min(GROUPS, len(made) // 2)
    belongs = np.arange(len(made)) % groups
    without = [squared_mmd(made[belongs != k], real) for k in range(groups)]
    variance = (groups - 1) * np.var(without)
    return squared_mmd(made, real), float(np.sqrt(variance))


def _pairs_mean(rows: Float[np.ndarray, "n d"]) -> float:
    """Returns the mean of k over all pairs of different rows."""
    kernel = _kernel(rows, rows)
    n = len(rows)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def _kernel(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    return (a @ b.T / a.shape[1] + 1) ** 3
