"""The square convolution of both networks, with a kernel gradient of its own on CPUs.

XLA's convolutions are as fast as a CPU allows except for the gradient of the kernel,
which runs at a third of the speed of a matrix product. `kernel_gradient_by_rows`
computes it as matrix products instead, and is compiled on CPUs only; on a TPU or GPU,
and wherever the kernel is not 3 x 3 or wider or has a stride, XLA's own is used. Both
are the same sum (benchmarks/kernel_gradient.py times them).
"""

import functools
import math
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Pixels whose products are taken at once: small enough that they stay in the cache.
_CHUNK_PIXELS = 512


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int = 1
) -> Float[Array, "b h2 w2 d"]:
    """Returns the convolution with padding "SAME"; h2 = h / stride."""
    return cast(Array, _with_own_gradient(x, kernel, stride))


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple]:
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple, grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    (dx,) = jax.linear_transpose(lambda x: _convolve(x, kernel, stride), x)(grad)

    size = kernel.shape[0]
    by_xla = functools.partial(kernel_gradient_by_xla, size=size, stride=stride)
    if stride != 1 or size < 3 or size % 2 == 0:
        return dx, by_xla(x, grad)
    by_rows = functools.partial(kernel_gradient_by_rows, size=size)
    return dx, lax.platform_dependent(x, grad, cpu=by_rows, default=by_xla)


_with_own_gradient = jax.custom_vjp(_convolve, nondiff_argnums=(2,))
_with_own_gradient.defvjp(_forward, _backward)


def kernel_gradient_by_xla(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h2 w2 d"], size: int, stride: int
) -> Float[Array, "k k c d"]:
    """Returns the gradient of the kernel as XLA computes it; see `convolve`."""
    kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1], grad.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda k: _convolve(x, k, stride), kernel)(grad)[0]


def kernel_gradient_by_rows(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"], size: int
) -> Float[Array, "k k c d"]:
    """Returns sum over pixels p of x[p + (i, j)] grad[p]^T for each offset (i, j).

    Chunk by chunk of a few rows: the `size` horizontal shifts of x lie side by side as
    channels, so each vertical shift is one product [d, pixels] x [pixels, k c]. The
    left factor is transposed in memory, since a product that contracts the first axis
    of both its factors runs at half the speed.

    Args:
      x: what was convolved.
      grad: gradient of the output.
      size: side of the kernel, odd.
    """
    # One part per device that may hold a part of the batch: each sums its own chunks,
    # and the parts are added once, at the end.
    parts = math.gcd(x.shape[0], jax.device_count())
    sums = jax.vmap(functools.partial(_sum_of_chunks, size=size))(
        x.reshape(parts, -1, *x.shape[1:]), grad.reshape(parts, -1, *grad.shape[1:])
    )
    c, d = x.shape[-1], grad.shape[-1]
    kernel = sums.sum(axis=0).reshape(size, d, size, c).transpose(0, 2, 3, 1)
    return kernel.astype(x.dtype)


def _sum_of_chunks(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"], size: int
) -> Float[Array, "k d kc"]:
    """Returns the gradient as [vertical shift, out, horizontal shift and in]."""
    b, h, w, c = x.shape
    d = grad.shape[-1]
    rows = _largest_divisor(h, _CHUNK_PIXELS // w)
    pictures = _largest_divisor(b, _CHUNK_PIXELS // (h * w)) if rows == h else 1
    chunks_high, pad = h // rows, size // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def add_chunk(total: Array, chunk: Array) -> tuple[Array, None]:
        start = (chunk // chunks_high * pictures, chunk % chunks_high * rows, 0, 0)
        x_chunk = lax.dynamic_slice(
            x, start, (pictures, rows + 2 * pad, w + 2 * pad, c)
        )
        shifted = jnp.concatenate([x_chunk[:, :, j : j + w] for j in range(size)], -1)
        grad_chunk = lax.dynamic_slice(grad, start, (pictures, rows, w, d))
        # Barriers, or XLA computes both again inside each product, element by element.
        shifted, grad_chunk = lax.optimization_barrier(
            (shifted, grad_chunk.reshape(-1, d).T)
        )
        products = [
            jnp.dot(
                grad_chunk,
                shifted[:, i : i + rows].reshape(-1, size * c),
                preferred_element_type=jnp.float32,
            )
            for i in range(size)
        ]
        return total + jnp.stack(products), None

    zeros = jnp.zeros((size, d, size * c), jnp.float32)
    total, _ = lax.scan(add_chunk, zeros, jnp.arange(b // pictures * chunks_high))
    return total


def _largest_divisor(number: int, limit: int) -> int:
    """Returns the largest divisor of `number` that is at most max(limit, 1)."""
    return max(n for n in range(1, max(min(number, limit), 1) + 1) if number % n == 0)
