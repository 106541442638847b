"""Inception score: how sure and how varied a classifier's answers to pictures are.

    IS = exp( mean_x KL( p(y|x) || p(y) ) ),   p(y) = mean_x p(y|x)

between 1 and the number of classes, computed in `num_splits` parts of the set and
averaged. It knows no real pictures, and is printed because older tables have it.
Source: arXiv:1606.03498, section 4, whose published code takes 10 parts of 5,000.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_SPLITS = 10


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits, and how many there were."""

    value: float
    std: float
    num_splits: int


def inception_score(
    log_probs: Float[np.ndarray, "n classes"], num_splits: int = NUM_SPLITS
) -> InceptionScore:
    """Returns the score.

    Args:
      log_probs: logarithms of p(y|x) of each picture x, in an order that has nothing to
        do with what the pictures show: a split is a run of rows.
      num_splits: parts, at least 1 and at most n.

    Raises:
      ValueError: there are fewer rows than parts.
    """
    if not 1 <= num_splits <= len(log_probs):
        raise ValueError(f"{len(log_probs)} rows make no {num_splits} parts")
    scores = [
        _score(part.astype(np.float64))
        for part in np.array_split(log_probs, num_splits)
    ]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), num_splits)


def _score(log_probs: Float[np.ndarray, "n classes"]) -> float:
    probs = np.exp(log_probs)
    mean = probs.mean(axis=0)
    # p log p is 0 at p = 0, where the logarithm may be -inf.
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probs > 0, probs * (log_probs - np.log(mean)), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))
