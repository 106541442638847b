"""Thresholding: keeping the predicted clean picture in the range of real ones.

Large guidance weights push x0 out of [-1, 1], which training never saw, and the error
compounds over the steps. Before every sampler step (arXiv:2205.11487, section 2.3):

  static   x0 <- clip(x0, -1, 1)
  dynamic  s = max(1, p-th percentile of |x0| over the picture),
           x0 <- clip(x0, -s, s) / s
  capped   the same with s at most a cap (not in the paper)

Dynamic thresholding pulls saturated pixels inwards instead of leaving them at the edge.
s is one per picture and never below 1: it must not stretch a picture that is in range.
The pseudo-code of Fig. A.31 (`jnp.max(s, 1.0)`) is not valid JAX, hence no copy of it.

A thresholded x0 no longer belongs to the network's eps: whoever needs eps afterwards
recomputes it with `parameterization.eps_from_x0`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.diffusion.percentile import percentile as percentile_of


def dynamic_threshold(
    x0: Float[Array, "b h w c"],
    percentile: Float[Array, ""],
    cap: float | Float[Array, ""] = float("inf"),
) -> Float[Array, "b h w c"]:
    """Returns x0 clipped to its own percentile and divided by it, in [-1, 1].

    Args:
      x0: predicted clean pictures.
      percentile: p in percent; 99.5 in Fig. A.10. Taken exactly, with linear
        interpolation between ranks, in float32.
      cap: upper limit of s, at least 1. Not in the paper: at high guidance weights a
        large s costs contrast, so DeepFloyd IF caps it (1.5 in its base). 1 is static
        thresholding.

    Source: arXiv:2205.11487, section 2.3.
    """
    s = percentile_of(jnp.abs(x0.astype(jnp.float32)), percentile)
    s = jnp.maximum(jnp.minimum(s, cap), 1.0)
    return jnp.clip(x0, -s, s) / s


def threshold(
    kind: str,
    x0: Float[Array, "b h w c"],
    percentile: Float[Array, ""],
    cap: float | Float[Array, ""] = float("inf"),
) -> Float[Array, "b h w c"]:
    """Returns x0 after the thresholding that a config names.

    Args:
      kind: "none", "static", "dynamic" or "capped".
      x0: predicted clean pictures.
      percentile: for "dynamic" and "capped", see `dynamic_threshold`.
      cap: likewise; "capped" is "dynamic" with a cap that the config must give.

    Raises:
      ValueError: on an unknown kind.
    """
    match kind:
        case "none":
            return x0
        case "static":
            return jnp.clip(x0, -1.0, 1.0)
        case "dynamic" | "capped":
            return dynamic_threshold(x0, percentile, cap)
        case _:
            raise ValueError(
                f"threshold {kind!r} is not one of none, static, dynamic, capped"
            )
