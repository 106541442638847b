"""The parts that convolutional feature networks are made of, float32 throughout.

A convolution's parameters are `kernel` [h w i o] and those of the batch normalisation
behind it, which at evaluation is an affine map of each channel:

    y = (x - mean) / sqrt(variance + eps) scale + bias

Products are float32 on every machine: a distance must not depend on where it was made.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagen_jax.text.layers import Params
from imagen_jax.text.parameters import Leaf, one

Padding = str | Sequence[tuple[int, int]]
"""Of height and width: TensorFlow's "SAME" and "VALID", or (before, after) of each."""


def convolve(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw j o"],
    stride: int = 1,
    padding: Padding = "SAME",
    groups: int = 1,
) -> Float[Array, "b h2 w2 o"]:
    """Returns the convolution; j = i / groups."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )


def normalize(x: Float[Array, "b h w c"], p: Params, eps: float):
    """Returns y above [b h w c]; the mean and variance are those of the training."""
    return (x - p["mean"]) * jax.lax.rsqrt(p["variance"] + eps) * p["scale"] + p["bias"]


def max_pool(
    x: Float[Array, "b h w c"], stride: int, padding: Padding
) -> Float[Array, "b h2 w2 c"]:
    """Returns the maximum of each 3 x 3 window; what is padded does not count."""
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), _of(padding)
    )


def average_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns the mean of the 3 x 3 window around each pixel; padding does not count.

    As TensorFlow's does; torch's counts padded zeros by default.
    """

    def window_sum(values: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.lax.reduce_window(
            values, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"
        )

    return window_sum(x) / window_sum(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def convolution_leaves(
    path: str, kernel: str, norm: str, shape: tuple[int, int, int, int]
) -> list[Leaf]:
    """Returns where a convolution and its batch normalisation come from.

    Args:
      path: of both in the parameters.
      kernel: name of torch's kernel, whose order is (out, in, height, width).
      norm: name of torch's BatchNorm2d.
      shape: of our kernel, (height, width, in, out).
    """
    height, width, fan_in, fan_out = shape
    leaves = [
        one(
            f"{path}/kernel",
            f"{kernel}.weight",
            *(fan_out, fan_in, height, width),
            convert=_to_ours,
        )
    ]
    for ours, theirs in (
        ("scale", "weight"),
        ("bias", "bias"),
        ("mean", "running_mean"),
        ("variance", "running_var"),
    ):
        leaves.append(one(f"{path}/{ours}", f"{norm}.{theirs}", fan_out))
    return leaves


def _to_ours(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0)


def _of(padding: Padding) -> Padding:
    return padding if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
