"""The square convolution of both networks, with ways of its own on CPUs.

XLA's convolutions are as fast as a CPU allows except in two cases, for which a
program that is compiled for CPUs has matrix products instead, of the same sums:

- The gradient of the kernel runs at a third of the speed of a matrix product:
  `kernel_gradient_by_rows` (benchmarks/kernel_gradient.py times both).
- bfloat16 is computed in float32, where matrix products use a CPU's bfloat16
  instructions: `convolve_by_rows`, for channels enough to pay for its copies.

On a TPU or GPU, and wherever the kernel is not 3 x 3 or wider or has a stride, XLA's
own is used.
"""

import functools
import math
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

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
    if not _pays_by_rows(x, kernel, stride):
        return by_xla(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=convolve_by_rows, default=by_xla)


def _convolve_by_xla(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _is_plain(size: int, stride: int) -> bool:
    return stride == 1 and size >= 3 and size % 2 == 1


def _pays_by_rows(x: Array, kernel: Array, stride: int) -> bool:
    size, _, *channels = kernel.shape
    is_wide = min(channels) >= _CHANNELS_BY_ROWS
    return x.dtype == jnp.bfloat16 and is_wide and _is_plain(size, stride)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple]:
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple, grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size = kernel.shape[0]

    def dx_by_xla(grad: Array, kernel: Array) -> Array:
        convolve = functools.partial(_convolve_by_xla, kernel=kernel, stride=stride)
        return jax.linear_transpose(convolve, x)(grad)[0]

    def dx_by_rows(grad: Array, kernel: Array) -> Array:
        return convolve_by_rows(grad, kernel[::-1, ::-1].transpose(0, 1, 3, 2))

    if _pays_by_rows(x, kernel, stride):
        dx = lax.platform_dependent(grad, kernel, cpu=dx_by_rows, default=dx_by_xla)
    else:
        dx = dx_by_xla(grad, kernel)

    by_xla = functools.partial(kernel_gradient_by_xla, size=size, stride=stride)
    if not _is_plain(size, stride):
        return dx, by_xla(x, grad)
    by_rows = functools.partial(kernel_gradient_by_rows, size=size)
    return dx, lax.platform_dependent(x, grad, cpu=by_rows, default=by_xla)


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
    parts = _in_parts(x)
    y = jax.vmap(functools.partial(_convolve_chunks, kernel=kernel))(parts)
    return y.reshape(*x.shape[:3], kernel.shape[-1])


def _convolve_chunks(x: Array, kernel: Array) -> Float[Array, "b h w d"]:
    b, h, w, c = x.shape
    size, d = kernel.shape[0], kernel.shape[-1]
    chunks = _Chunks.of(x.shape, _CHUNK_PIXELS_BFLOAT16, size)
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
        _in_parts(x), _in_parts(grad)
    )
    c, d = x.shape[-1], grad.shape[-1]
    kernel = sums.sum(axis=0).reshape(size, d, size, c).transpose(0, 2, 3, 1)
    return kernel.astype(x.dtype)


def _sum_of_chunks(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"], size: int
) -> Float[Array, "k d kc"]:
    """Returns the gradient as [vertical shift, out, horizontal shift and in]."""
    c, d = x.shape[-1], grad.shape[-1]
    chunks = _Chunks.of(x.shape, _CHUNK_PIXELS, size)
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


def _in_parts(x: Float[Array, "b h w c"]) -> Float[Array, "p b2 h w c"]:
    """Returns x with an axis of devices that may hold a part of the batch each.

    Chunks are taken of each part, so no device needs what another one holds.
    """
    parts = math.gcd(x.shape[0], jax.device_count())
    return x.reshape(parts, -1, *x.shape[1:])


class _Chunks(NamedTuple):
    """Runs of whole rows, or of whole pictures, that a map is cut into.

    Attributes:
      pictures: of a chunk.
      rows: of each of them.
      high: chunks over the height of a picture.
      count: chunks in all.
      size: side of the kernel.
    """

    pictures: int
    rows: int
    high: int
    count: int
    size: int

    @classmethod
    def of(cls, shape: tuple[int, ...], pixels: int, size: int) -> "_Chunks":
        """Returns chunks of at most `pixels`, and of one row at least."""
        b, h, w, _ = shape
        rows = _largest_divisor(h, pixels // w)
        pictures = _largest_divisor(b, pixels // (h * w)) if rows == h else 1
        return cls(pictures, rows, h // rows, b * h // (pictures * rows), size)

    def padded(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h3 w3 c"]:
        """Returns x as `shifted` takes it."""
        pad = self.size // 2
        return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def cut(
        self, x: Float[Array, "b h w c"], chunk: Array, more: int = 0
    ) -> Float[Array, "p r w c"]:
        """Returns a chunk, with `more` rows below."""
        start = (chunk // self.high * self.pictures, chunk % self.high * self.rows)
        sizes = (self.pictures, self.rows + more, *x.shape[2:])
        return lax.dynamic_slice(x, (*start, 0, 0), sizes)

    def shifted(
        self, x: Float[Array, "b h3 w3 c"], chunk: Array
    ) -> Float[Array, "p r2 w kc"]:
        """Returns a chunk of a padded map, its horizontal shifts side by side."""
        cut = self.cut(x, chunk, more=self.size - 1)
        w = x.shape[2] - self.size + 1
        return jnp.concatenate([cut[:, :, j : j + w] for j in range(self.size)], -1)


def _largest_divisor(number: int, limit: int) -> int:
    """Returns the largest divisor of `number` that is at most max(limit, 1)."""
    return max(n for n in range(1, max(min(number, limit), 1) + 1) if number % n == 0)
