"""Mean and covariance of features that pass by once, in float64.

With n rows seen, mean m and scatter S = sum (x - m)(x - m)^T, a batch of k rows with
mean m' and scatter S' joins as

    S <- S + S' + (m' - m)(m' - m)^T n k / (n + k),   m <- m + (m' - m) k / (n + k)

(Chan, Golub and LeVeque 1979): nothing is subtracted that is large against the result,
as the sum of squares minus the square of the sum would.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Gaussian(NamedTuple):
    """The normal distribution with the moments of a set.

    Attributes:
      mean: [d], float64.
      covariance: [d d], float64, with n - 1 in the denominator as numpy.cov.
      count: n, how many rows it was made from.
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    count: int


class Moments:
    """Accumulates rows; order and batches do not matter beyond float64's rounding."""

    def __init__(self, width: int):
        """Starts without rows.

        Args:
          width: d, length of a row.
        """
        self.count = 0
        self._mean = np.zeros(width)
        self._scatter = np.zeros((width, width))

    def add(self, rows: Float[np.ndarray, "b d"]) -> None:
        """Adds rows of any floating type.

        Raises:
          ValueError: a value is not finite.
        """
        rows = rows.astype(np.float64)
        if not np.isfinite(rows).all():
            raise ValueError("features are not finite")
        if len(rows):
            mean = rows.mean(axis=0)
            centred = rows - mean
            self._join(len(rows), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Adds all rows that another accumulator has seen."""
        if other.count:
            self._join(other.count, other._mean, other._scatter)

    def gaussian(self) -> Gaussian:
        """Returns the moments so far.

        Raises:
          ValueError: there are fewer than 2 rows, hence no covariance.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} rows have no covariance")
        covariance = self._scatter / (self.count - 1)
        return Gaussian(self._mean.copy(), covariance, self.count)

    def _join(
        self,
        count: int,
        mean: Float[np.ndarray, " d"],
        scatter: Float[np.ndarray, "d d"],
    ) -> None:
        total = self.count + count
        step = mean - self._mean
        self._scatter += scatter + np.outer(step, step) * (self.count * count / total)
        self._mean += step * (count / total)
        self.count = total
