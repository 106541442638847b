"""95 % intervals: how far a figure would move if only the luck of sampling changed.

A share of pictures is binomial (Wilson's interval, which stays inside [0, 1] and is
right for shares near 0 and 1); a mean over pictures gets Student's interval. Both
describe one trained model; the spread between training runs is larger and is what the
band of a reference (`imagen_jax.evaluation.reference`) is for.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Both ends of an interval, in the figure's own unit."""

    low: float
    high: float


def share_interval(
    num_right: int, num_total: int, confidence: float = CONFIDENCE
) -> Interval:
    """Returns Wilson's interval of a share, within [0, 1].

    Args:
      num_right: pictures that count, from 0 to `num_total`.
      num_total: all pictures, at least 1.
      confidence: in (0, 1).

    Source: E. B. Wilson, JASA 22 (1927), without continuity correction.
    """
    if not 0 <= num_right <= num_total or num_total < 1:
        raise ValueError(f"{num_right} of {num_total} is no share")
    z = special.ndtri(0.5 + confidence / 2.0)
    share = num_right / num_total
    spread = z**2 / num_total
    centre = (share + spread / 2.0) / (1.0 + spread)
    variance = share * (1.0 - share) / num_total + spread / (4.0 * num_total)
    half = z * np.sqrt(variance) / (1.0 + spread)
    return Interval(float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def mean_interval(
    values: Float[np.ndarray, " n"], confidence: float = CONFIDENCE
) -> Interval:
    """Returns Student's interval of the mean.

    Args:
      values: at least 2, one per picture.
      confidence: in (0, 1).
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no spread; 2 are needed")
    t = special.stdtrit(len(values) - 1, 0.5 + confidence / 2.0)
    half = t * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half))
