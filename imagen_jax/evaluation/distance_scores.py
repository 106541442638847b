"""Distances of a sweep's cell from real pictures, as a `sweep.Scorer`.

A cell has a few hundred pictures, so its Frechet distance is biased upwards: it serves
to compare cells of equal numbers. The kernel distance is unbiased; beside it stands its
standard error, the luck of sampling, the reference being fixed.
"""

import re

import numpy as np

from imagen_jax.evaluation.sweep import ERROR, Drawn, Scorer
from imagen_jax.features.extractor import Extractor, extract_all
from imagen_jax.metrics.comparison import check_same_features
from imagen_jax.metrics.frechet import rows_frechet_distance
from imagen_jax.metrics.kernel_distance import jackknifed_mmd
from imagen_jax.metrics.statistics import Statistics

REAL_ROWS = 512  # of the reference, for the kernel distance


def score_distances(extractor: Extractor, reference: Statistics) -> Scorer:
    """Returns the scorer of the last stage's pictures.

    Its figures are named by the extractor: "fid" and "kid_x1000" of Inception,
    "fid_like" and "kid_like_x1000" of EfficientNet-Lite0.

    Args:
      extractor: describes pictures.
      reference: of real pictures, of the last stage's resolution.

    Raises:
      UserError: the reference was made with other features.
    """
    check_same_features(extractor.identity, reference.manifest["extractor"])
    frechet = figure_name(extractor.name)
    kernel = f"{figure_name(extractor.kernel_name)}_x1000"
    rows = np.random.default_rng(0).permutation(len(reference.features))
    real = reference.features[np.sort(rows[:REAL_ROWS])]

    def score(drawn: Drawn) -> dict[str, float]:
        pictures = list(drawn.values())[-1]
        found = extract_all(extractor, pictures)
        made = np.concatenate([np.asarray(features.pooled) for features in found])
        value, error = jackknifed_mmd(made, real)
        return {
            frechet: round(rows_frechet_distance(made, reference.gaussian), 3),
            kernel: round(1000 * value, 3),
            f"{kernel}{ERROR}": round(1000 * error, 3),
        }

    return score


def figure_name(printed: str) -> str:
    """Returns "fid_like" of "FID-like (EfficientNet-Lite0)"."""
    return re.sub(r"\W+", "_", printed.partition(" (")[0].lower())
