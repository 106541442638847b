"""Frechet distance of two normal distributions, which FID takes of Inception features.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

With the symmetric roots R and S of both covariances the last trace is the sum of the
singular values of R S. It keeps its digits where covariances are singular, as of fewer
pictures than features, and needs no offset. Source: arXiv:1706.08500, equation 6.
"""

import numpy as np
from jaxtyping import Float

from imagen_jax.metrics.moments import Gaussian


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Returns d^2 above, at least 0 but for rounding.

    Args:
      a: moments of one set.
      b: of another, of the same features.

    Raises:
      ValueError: their widths differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"widths {a.mean.shape} and {b.mean.shape} differ")
    roots = _square_root(a.covariance) @ _square_root(b.covariance)
    trace_of_root = np.linalg.svd(roots, compute_uv=False).sum()
    offset = a.mean - b.mean
    spread = np.trace(a.covariance) + np.trace(b.covariance)
    return float(offset @ offset + spread - 2 * trace_of_root)


def rows_frechet_distance(made: Float[np.ndarray, "n d"], real: Gaussian) -> float:
    """Returns `frechet_distance` of few rows, without an eigenproblem of d.

    With centred rows X the covariance is C = X^T X / (n - 1), so the eigenvalues of
    C C' that are not 0 are those of X C' X^T / (n - 1), which is n x n.

    Args:
      made: at least 2 rows.
      real: m and C' of the other set.
    """
    made = made.astype(np.float64)
    offset = made.mean(axis=0) - real.mean
    centred = (made - made.mean(axis=0)) / np.sqrt(len(made) - 1)
    eigenvalues = np.linalg.eigvalsh(centred @ real.covariance @ centred.T)
    trace_of_root = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    spread = np.square(centred).sum() + np.trace(real.covariance)
    return float(offset @ offset + spread - 2 * trace_of_root)


def _square_root(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Returns the symmetric root; eigenvalues that are rounding alone count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    noise = np.finfo(np.float64).eps * len(values) * max(values[-1], 0)
    roots = np.sqrt(np.where(values > noise, values, 0))
    return (vectors * roots) @ vectors.T
