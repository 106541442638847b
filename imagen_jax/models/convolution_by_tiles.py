"""The 3 x 3 convolution in fewer products: Winograd's F(2 x 2, 3 x 3), for CPUs.

A tile of 2 x 2 outputs y sees 4 x 4 inputs d. In other bases than the pixels' the
convolution with a kernel g is a product place by place, and costs 16 multiplications
for each pair of channels instead of 36 (Lavin and Gray, arXiv:1509.09308, section 4.1):

    y = A^T [sum over input channels of (G g G^T) * (B^T d B)] A

The transposes of the three changes of basis give the gradients. Numbers between are
float32 whatever the type, and rounding is within some bits of that of plain sums.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from imagen_jax.models.chunks import in_parts, largest_divisor

# What is made of so many pixels of a few pictures stays in the cache.
_CHUNK_PIXELS = 512
# With fewer channels, in or out, or more numbers in a picture, the changes of basis
# cost more than is won.
_FEWEST_CHANNELS = 32
_LARGEST_PICTURE = 2**17
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_KERNEL_BASIS = np.kron(_G, _G)  # of a kernel that is flattened, [16 9]


def pays_by_tiles(x: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether tiles are faster, from the shapes [b h w c] and [3 3 c d]."""
    _, h, w, _ = x
    fewest, most = min(kernel[2:]), max(kernel[2:])
    is_even = h % 2 == w % 2 == 0
    return is_even and fewest >= _FEWEST_CHANNELS and h * w * most <= _LARGEST_PICTURE


@jax.jit
def convolve_by_tiles(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w d"]:
    """Returns the convolution with padding "SAME"; h and w are even."""
    return _sum_over_channels(x, _changed(kernel, _KERNEL_BASIS), axis=1)


@jax.jit
def input_gradient_by_tiles(
    grad: Float[Array, "b h w d"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w c"]:
    """Returns the gradient of what was convolved, from that of the output.

    It is the convolution with the kernel turned by half a circle, over its outputs.
    """
    return _sum_over_channels(grad, _changed(kernel, _KERNEL_BASIS[:, ::-1]), axis=2)


def _changed(kernel: Array, basis: np.ndarray) -> Float[Array, "16 c d"]:
    kernel = kernel.astype(jnp.float32).reshape(9, *kernel.shape[2:])
    return jnp.tensordot(basis, kernel, 1)


def _sum_over_channels(
    x: Float[Array, "b h w c"], kernel: Float[Array, "16 m n"], axis: int
) -> Float[Array, "b h w d"]:
    """Returns the convolution; channels of x are this axis of the kernel."""
    _, h, w, _ = x.shape

    def of_pictures(x: Array) -> Array:
        # Barriers, or XLA computes sums again at each place of their use.
        tiles = lax.optimization_barrier(_input_tiles(x))
        products = lax.optimization_barrier(_place_by_place(tiles, kernel, (2, axis)))
        return _outputs(products, (len(x), h, w)).astype(x.dtype)

    def of_part(x: Array) -> Array:
        return lax.map(of_pictures, _chunks(x))

    return jax.vmap(of_part)(in_parts(x)).reshape(*x.shape[:3], -1)


@jax.jit
def kernel_gradient_by_tiles(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"]
) -> Float[Array, "3 3 c d"]:
    """Returns the gradient of the kernel; h and w are even.

    Args:
      x: what was convolved.
      grad: gradient of the output.
    """
    c, d = x.shape[-1], grad.shape[-1]

    def add_pictures(total: Array, pictures: tuple[Array, Array]):
        x, grad = pictures
        tiles, grads = lax.optimization_barrier(
            (_input_tiles(x), _gradient_tiles(grad))
        )
        return total + _place_by_place(tiles, grads, (1, 1)), None

    def of_part(x: Array, grad: Array) -> Array:
        zeros = jnp.zeros((16, c, d), jnp.float32)
        total, _ = lax.scan(add_pictures, zeros, (_chunks(x), _chunks(grad)))
        return jnp.tensordot(_KERNEL_BASIS.T, total, 1)

    of_parts = jax.vmap(of_part)(in_parts(x), in_parts(grad))
    return of_parts.sum(axis=0).reshape(3, 3, c, d).astype(x.dtype)


def _chunks(x: Float[Array, "b h w c"]) -> Float[Array, "n b2 h w c"]:
    """Returns the map as runs of pictures, one at least."""
    b, h, w, c = x.shape
    pictures = largest_divisor(b, _CHUNK_PIXELS // (h * w))
    return x.reshape(-1, pictures, h, w, c)


def _place_by_place(
    a: Array, b: Array, axes: tuple[int, int]
) -> Float[Array, "16 m n"]:
    """Returns the matrix product at each place of a tile, over one axis of each."""
    return lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((0,), (0,))))


def _input_tiles(x: Float[Array, "b h w c"]) -> Float[Array, "16 tiles c"]:
    """Returns B^T d B of each tile, zeros around the picture."""
    b, h, w, c = x.shape
    high, wide = h // 2, w // 2
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = x.reshape(b, high + 1, 2, (w + 2) * c)
    rows = _times_b([x[:, i // 2 : i // 2 + high, i % 2] for i in range(4)])
    # The barrier: in one loop XLA would take 16 numbers for each, and compile longer.
    x = lax.optimization_barrier(jnp.stack(rows))
    x = x.reshape(4, b, high, wide + 1, 2, c)
    tiles = _times_b([x[..., j // 2 : j // 2 + wide, j % 2, :] for j in range(4)])
    return jnp.stack(tiles, axis=1).reshape(16, -1, c)


def _outputs(
    products: Float[Array, "16 tiles d"], shape: tuple[int, int, int]
) -> Float[Array, "b h w d"]:
    """Returns A^T m A of each tile, put together."""
    b, h, w = shape
    m = products.reshape(4, 4, b, h // 2, w // 2, -1)
    rows = [_times_a(row) for row in m]
    y = [_times_a([row[j] for row in rows]) for j in range(2)]
    columns = [jnp.stack([y[0][i], y[1][i]], axis=3) for i in range(2)]
    return jnp.stack(columns, axis=2).reshape(b, h, w, -1)


def _gradient_tiles(grad: Float[Array, "b h w d"]) -> Float[Array, "16 tiles d"]:
    """Returns A y A^T of each tile: the gradient of `_outputs`."""
    b, h, w, d = grad.shape
    grad = grad.astype(jnp.float32).reshape(b, h // 2, 2, w * d)
    rows = lax.optimization_barrier(
        jnp.stack(_times_a_transposed(grad[:, :, 0], grad[:, :, 1]))
    )
    rows = rows.reshape(4, b, h // 2, w // 2, 2, d)
    tiles = _times_a_transposed(rows[..., 0, :], rows[..., 1, :])
    return jnp.stack(tiles, axis=1).reshape(16, -1, d)


def _times_b(d: Sequence[Array]) -> list[Array]:
    """Returns B^T d, over a list of four."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _times_a(m: Sequence[Array] | Array) -> list[Array]:
    """Returns A^T m, from four to two."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _times_a_transposed(y0: Array, y1: Array) -> list[Array]:
    """Returns A y, from two to four."""
    return [y0, y0 + y1, y0 - y1, -y1]
