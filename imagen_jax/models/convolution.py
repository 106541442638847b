"""The square convolution of both networks, with ways of its own on CPUs.

A program that is compiled for CPUs has matrix products instead of XLA's convolutions
where they are faster:

- 3 x 3, for channels enough to pay for the changes of basis: `convolution_by_tiles`, in
  4 / 9 of the multiplications. In float32 also for bfloat16, as XLA's convolutions are.
- bfloat16 with more channels, but for the gradient of the kernel: `convolve_by_rows`,
  for matrix products use a CPU's bfloat16 instructions.
- The gradient of all other kernels of 3 x 3 and wider, which XLA computes at a third of
  the speed of a matrix product: `kernel_gradient_by_rows`.

benchmarks/layers.py and benchmarks/kernel_gradient.py time them. On a TPU or GPU, and
wherever there is a stride, XLA's own is used.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from imagen_jax.models.chunks import Chunks, in_parts
from imagen_jax.models.convolution_by_tiles import (
    convolve_by_tiles,
    input_gradient_by_tiles,
    kernel_gradient_by_tiles,
    pays_by_tiles,
)

# Pixels whose products are taken at once: small enough that they stay in the cache.
_CHUNK_PIXELS = 512
_CHUNK_PIXELS_BFLOAT16 = 1024
_CHANNELS_BY_ROWS = 96  # with fewer, in or out, the copies cost more than is won


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int = 1
) -> Float[Array, "b h2 w2 d"]:
    """Returns the convolution with padding "SAME"; h2 = h / stride."""
    return cast(Array, _with_own_gradient(x, kernel, stride))


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    by_xla = functools.partial(_convolve_by_xla, stride=stride)
    return _on_cpus(_own_forms(x, kernel, stride).value, by_xla, x, kernel)


def _convolve_by_xla(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _on_cpus(
    own: Callable[..., Array] | None, by_xla: Callable[..., Array], *arguments: Array
) -> Array:
    """Returns the result of `own` where the program is compiled for a CPU."""
    if own is None:
        return by_xla(*arguments)
    return lax.platform_dependent(*arguments, cpu=own, default=by_xla)


class _OwnForms(NamedTuple):
    """What is compiled for CPUs; None where it is XLA's own.

    Attributes:
      value: (x, kernel) -> convolution.
      input_gradient: (grad, kernel) -> gradient of x.
      kernel_gradient: (x, grad) -> gradient of the kernel.
    """

    value: Callable[[Array, Array], Array] | None = None
    input_gradient: Callable[[Array, Array], Array] | None = None
    kernel_gradient: Callable[[Array, Array], Array] | None = None


def _own_forms(x: Array, kernel: Array, stride: int) -> _OwnForms:
    size, narrow = kernel.shape[0], min(kernel.shape[2:])
    if stride > 1 or size < 3 or size % 2 == 0:
        return _OwnForms()
    in_tiles = size == 3 and pays_by_tiles(x.shape, kernel.shape)
    kernel_gradient = functools.partial(kernel_gradient_by_rows, size=size)
    if in_tiles:
        kernel_gradient = kernel_gradient_by_tiles
    if x.dtype == jnp.bfloat16 and narrow >= _CHANNELS_BY_ROWS:
        return _OwnForms(convolve_by_rows, input_gradient_by_rows, kernel_gradient)
    if in_tiles:
        return _OwnForms(convolve_by_tiles, input_gradient_by_tiles, kernel_gradient)
    return _OwnForms(kernel_gradient=kernel_gradient)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple]:
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple, grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    own = _own_forms(x, kernel, stride)

    def dx_by_xla(grad: Array, kernel: Array) -> Array:
        convolve = functools.partial(_convolve_by_xla, kernel=kernel, stride=stride)
        return jax.linear_transpose(convolve, x)(grad)[0]

    by_xla = functools.partial(
        kernel_gradient_by_xla, size=kernel.shape[0], stride=stride
    )
    return (
        _on_cpus(own.input_gradient, dx_by_xla, grad, kernel),
        _on_cpus(own.kernel_gradient, by_xla, x, grad),
    )


_with_own_gradient = jax.custom_vjp(_convolve, nondiff_argnums=(2,))
_with_own_gradient.defvjp(_forward, _backward)


def convolve_by_rows(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"]
) -> Float[Array, "b h w d"]:
    """Returns the convolution, its sums in float32 and its result in the type of x.

    Chunk by chunk of a few rows: the k horizontal shifts of x lie side by side as
    channels and are multiplied once by the kernel, whose k rows lie side by side as
    outputs; these are added, each from the row above the one before.
    """
    parts = in_parts(x)
    y = jax.vmap(functools.partial(_convolve_chunks, kernel=kernel))(parts)
    return y.reshape(*x.shape[:3], kernel.shape[-1])


def _convolve_chunks(x: Array, kernel: Array) -> Float[Array, "b h w d"]:
    b, h, w, c = x.shape
    size, d = kernel.shape[0], kernel.shape[-1]
    chunks = Chunks.of(x.shape, _CHUNK_PIXELS_BFLOAT16, size)
    x = chunks.padded(x)
    # [k, k, c, d] as a matrix from horizontal shift and c to vertical shift and d.
    matrix = kernel.transpose(1, 2, 0, 3).reshape(size * c, size * d)

    def of_chunk(chunk: Array) -> Array:
        shifted = lax.optimization_barrier(chunks.shifted(x, chunk))
        rows = jnp.dot(
            shifted.reshape(-1, size * c), matrix, preferred_element_type=jnp.float32
        )
        rows = lax.optimization_barrier(rows.reshape(chunks.pictures, -1, w, size * d))
        total = jnp.zeros((chunks.pictures, chunks.rows, w, d), jnp.float32)
        for i in range(size):
            total += rows[:, i : i + chunks.rows, :, i * d : (i + 1) * d]
        return total.astype(x.dtype)

    return lax.map(of_chunk, jnp.arange(chunks.count)).reshape(b, h, w, d)


def input_gradient_by_rows(
    grad: Float[Array, "b h w d"], kernel: Float[Array, "k k c d"]
) -> Float[Array, "b h w c"]:
    """Returns the gradient of what was convolved, from that of the output."""
    return convolve_by_rows(grad, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


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
    sums = jax.vmap(functools.partial(_sum_of_chunks, size=size))(
        in_parts(x), in_parts(grad)
    )
    c, d = x.shape[-1], grad.shape[-1]
    kernel = sums.sum(axis=0).reshape(size, d, size, c).transpose(0, 2, 3, 1)
    return kernel.astype(x.dtype)


def _sum_of_chunks(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"], size: int
) -> Float[Array, "k d kc"]:
    """Returns the gradient as [vertical shift, out, horizontal shift and in]."""
    c, d = x.shape[-1], grad.shape[-1]
    chunks = Chunks.of(x.shape, _CHUNK_PIXELS, size)
    x = chunks.padded(x)

    def add_chunk(total: Array, chunk: Array) -> tuple[Array, None]:
        shifted, grad_chunk = chunks.shifted(x, chunk), chunks.cut(grad, chunk)
        # Barriers, or XLA computes both again inside each product, element by element.
        shifted, grad_chunk = lax.optimization_barrier(
            (shifted, grad_chunk.reshape(-1, d).T)
        )
        products = [
            jnp.dot(
                grad_chunk,
                shifted[:, i : i + chunks.rows].reshape(-1, size * c),
                preferred_element_type=jnp.float32,
            )
            for i in range(size)
        ]
        return total + jnp.stack(products), None

    zeros = jnp.zeros((size, d, size * c), jnp.float32)
    total, _ = lax.scan(add_chunk, zeros, jnp.arange(chunks.count))
    return total
