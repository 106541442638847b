"""Convolution with a kernel gradient that is fast on CPUs.

XLA computes the forward pass and the input's gradient of a convolution well on every
platform, and the kernel's gradient well on accelerators. On a CPU the latter runs at
half the speed of a matrix product (and as a naive loop inside a `while`), so there it
is written as one matrix product per tap of the kernel:

    dW[i, j] = (x shifted by (i, j))^T dy

`jax.lax.platform_dependent` selects at lowering, so compiling for a TPU on a CPU host
takes the TPU's path.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int = 1
) -> Float[Array, "b h2 w2 d"]:
    """Returns the cross-correlation of `x` with `kernel`, padding "SAME".

    Args:
      x: maps; h and w are multiples of `stride`.
      kernel: odd k, or k = stride.
      stride: step in both directions.
    """
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT
    )


def _forward(x, kernel, stride):
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride, saved, dy):
    x, kernel = saved

    def of_input(kernel):
        return jax.linear_transpose(
            lambda x: lax.conv_general_dilated(
                x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT
            ),
            x,
        )(dy)[0]

    def of_kernel(x, dy):
        return jax.linear_transpose(
            lambda kernel: lax.conv_general_dilated(
                x, kernel, (stride, stride), "SAME", dimension_numbers=_LAYOUT
            ),
            kernel,
        )(dy)[0]

    by_taps = functools.partial(_kernel_gradient_by_taps, kernel.shape[0], stride)
    dkernel = lax.platform_dependent(x, dy, cpu=by_taps, default=of_kernel)
    return of_input(kernel), dkernel


def _kernel_gradient_by_taps(size: int, stride: int, x: Array, dy: Array) -> Array:
    _, h, w, c = x.shape
    out_h, out_w, d = dy.shape[1:]
    # "SAME" puts the odd pixel of padding after the map, as XLA does.
    total = [max((o - 1) * stride + size - s, 0) for o, s in ((out_h, h), (out_w, w))]
    padding = [(t // 2, t - t // 2) for t in total]
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    dy = dy.reshape(-1, d)

    def of_tap(i: int, j: int) -> Array:
        rows = slice(i, i + (out_h - 1) * stride + 1, stride)
        columns = slice(j, j + (out_w - 1) * stride + 1, stride)
        # Without the barrier XLA fuses the slice into a slow product.
        shifted = lax.optimization_barrier(x[:, rows, columns])
        return lax.dot_general(
            shifted.reshape(-1, c),
            dy,
            (((0,), (0,)), ((), ())),
            preferred_element_type=jnp.float32,
        )

    taps = [of_tap(i, j) for i in range(size) for j in range(size)]
    return jnp.stack(taps).reshape(size, size, c, d).astype(x.dtype)


convolve.defvjp(_forward, _backward)
