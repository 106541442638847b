"""The 3 x 3 convolution in fewer products: Winograd's tiles, for CPUs.

A tile of m x m outputs y sees m + 2 times m + 2 inputs d. In other bases than the
pixels' the convolution with a kernel g is a product place by place (Lavin and Gray,
arXiv:1509.09308, section 4):

    y = A^T [sum over input channels of (G g G^T) * (B^T d B)] A

Tiles of 4 x 4 cost 36 multiplications for each pair of channels instead of 144; those
of 2 x 2, where a map is no multiple of 4 x 4, 16 instead of 36. The transposes of the
three changes of basis give the gradients. Numbers between are float32 whatever the
type, and rounding is within some bits of that of plain sums.
"""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from imagen_jax.models.chunks import in_parts, largest_divisor

# So many pixels of a few pictures are taken at once; one picture at least.
_CHUNK_PIXELS = 4096
# With fewer channels, in or out, or more numbers in a picture, the changes of basis
# cost more than is won.
_FEWEST_CHANNELS = 32
_LARGEST_PICTURE = 2**17


class _Bases(NamedTuple):
    """The changes of basis for tiles of m x m outputs.

    Attributes:
      outputs: A^T, [m m+2].
      inputs: B^T, [m+2 m+2].
      kernel: G, [m+2 3].
    """

    outputs: np.ndarray
    inputs: np.ndarray
    kernel: np.ndarray

    @classmethod
    def of(cls, x: Array) -> "_Bases":
        """Returns those for a map [b h w c]."""
        _, h, w, _ = x.shape
        return _OF_4 if h % 4 == w % 4 == 0 else _OF_2

    @property
    def flat_kernel(self) -> Float[np.ndarray, "n 9"]:
        """The change of basis of a flattened kernel; n = (m + 2)^2."""
        return np.kron(self.kernel, self.kernel).astype(np.float32)


_OF_2 = _Bases(
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
)
# The Toom-Cook scheme of the points 0, p, -p, 2p, -2p and infinity. Of the p that were
# tried rounding is least with the root of 1/2: a fourth of that with 1.
_P = 0.5**0.5
_OF_4 = _Bases(
    np.array(
        [
            [1, 1, 1, 1, 1, 0],
            [0, _P, -_P, 2 * _P, -2 * _P, 0],
            [0, 0.5, 0.5, 2, 2, 0],
            [0, _P / 2, -_P / 2, 4 * _P, -4 * _P, 1],
        ]
    ),
    np.array(
        [
            [1, 0, -2.5, 0, 1, 0],
            [0, -2 * _P, -2, _P, 1, 0],
            [0, 2 * _P, -2, -_P, 1, 0],
            [0, -_P, -0.5, 2 * _P, 1, 0],
            [0, _P, -0.5, -2 * _P, 1, 0],
            [0, 1, 0, -2.5, 0, 1],
        ]
    ),
    np.array(
        [
            [1, 0, 0],
            [-2 / 3, -2 / 3 * _P, -1 / 3],
            [-2 / 3, 2 / 3 * _P, -1 / 3],
            [1 / 6, _P / 3, 1 / 3],
            [1 / 6, -_P / 3, 1 / 3],
            [0, 0, 1],
        ]
    ),
)


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
    return _sum_over_channels(x, _changed(kernel, _Bases.of(x).flat_kernel), axis=1)


@jax.jit
def input_gradient_by_tiles(
    grad: Float[Array, "b h w d"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w c"]:
    """Returns the gradient of what was convolved, from that of the output.

    It is the convolution with the kernel turned by half a circle, over its outputs.
    """
    turned = _Bases.of(grad).flat_kernel[:, ::-1]
    return _sum_over_channels(grad, _changed(kernel, turned), axis=2)


def _changed(kernel: Array, basis: np.ndarray) -> Float[Array, "n c d"]:
    kernel = kernel.astype(jnp.float32).reshape(9, *kernel.shape[2:])
    return jnp.tensordot(basis, kernel, 1)


def _sum_over_channels(
    x: Float[Array, "b h w c"], kernel: Float[Array, "n m k"], axis: int
) -> Float[Array, "b h w d"]:
    """Returns the convolution; channels of x are this axis of the kernel."""
    bases = _Bases.of(x)

    def of_pictures(x: Array) -> Array:
        # Barriers, or XLA computes sums again at each place of their use.
        tiles = lax.optimization_barrier(_input_tiles(x, bases))
        products = lax.optimization_barrier(_place_by_place(tiles, kernel, (2, axis)))
        return _outputs(products, x.shape, bases).astype(x.dtype)

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
    bases = _Bases.of(x)
    basis = bases.flat_kernel

    def add_pictures(total: Array, pictures: tuple[Array, Array]):
        x, grad = pictures
        tiles, grads = lax.optimization_barrier(
            (_input_tiles(x, bases), _gradient_tiles(grad, bases))
        )
        return total + _place_by_place(tiles, grads, (1, 1)), None

    def of_part(x: Array, grad: Array) -> Array:
        zeros = jnp.zeros((len(basis), c, d), jnp.float32)
        total, _ = lax.scan(add_pictures, zeros, (_chunks(x), _chunks(grad)))
        return jnp.tensordot(basis.T, total, 1)

    of_parts = jax.vmap(of_part)(in_parts(x), in_parts(grad))
    return of_parts.sum(axis=0).reshape(3, 3, c, d).astype(x.dtype)


def _chunks(x: Float[Array, "b h w c"]) -> Float[Array, "n b2 h w c"]:
    """Returns the map as runs of pictures, one at least."""
    b, h, w, c = x.shape
    pictures = largest_divisor(b, _CHUNK_PIXELS // (h * w))
    return x.reshape(-1, pictures, h, w, c)


def _place_by_place(a: Array, b: Array, axes: tuple[int, int]) -> Float[Array, "n m k"]:
    """Returns the matrix product at each place of a tile, over one axis of each."""
    return lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((0,), (0,))))


def _input_tiles(
    x: Float[Array, "b h w c"], bases: _Bases
) -> Float[Array, "n tiles c"]:
    """Returns B^T d B of each tile, zeros around the picture."""
    b, h, w, c = x.shape
    m = len(bases.outputs)
    high, wide = h // m, w // m
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, m - 1), (1, m - 1), (0, 0)))
    x = x.reshape(b, high + 1, m, (w + m) * c)
    rows = [x[:, i // m : i // m + high, i % m] for i in range(m + 2)]
    # The barrier: in one loop XLA would take 16 numbers for each, and compile longer.
    x = lax.optimization_barrier(jnp.stack(_times(bases.inputs, rows)))
    x = x.reshape(m + 2, b, high, wide + 1, m, c)
    columns = [x[..., j // m : j // m + wide, j % m, :] for j in range(m + 2)]
    return jnp.stack(_times(bases.inputs, columns), axis=1).reshape((m + 2) ** 2, -1, c)


def _outputs(
    products: Float[Array, "n tiles d"], shape: tuple[int, ...], bases: _Bases
) -> Float[Array, "b h w d"]:
    """Returns A^T m A of each tile, put together."""
    b, h, w, _ = shape
    m = len(bases.outputs)
    products = products.reshape(m + 2, m + 2, b, h // m, w // m, -1)
    rows = jnp.stack(_times(bases.outputs, list(products)))
    rows = lax.optimization_barrier(rows)
    columns = _times(bases.outputs, [rows[:, j] for j in range(m + 2)])
    y = jnp.stack(columns, axis=4)  # [m b h/m w/m m d]
    return y.transpose(1, 2, 0, 3, 4, 5).reshape(b, h, w, -1)


def _gradient_tiles(
    grad: Float[Array, "b h w d"], bases: _Bases
) -> Float[Array, "n tiles d"]:
    """Returns A y A^T of each tile: the gradient of `_outputs`."""
    b, h, w, d = grad.shape
    m = len(bases.outputs)
    grad = grad.astype(jnp.float32).reshape(b, h // m, m, w * d)
    rows = _times(bases.outputs.T, [grad[:, :, i] for i in range(m)])
    rows = lax.optimization_barrier(jnp.stack(rows))
    rows = rows.reshape(m + 2, b, h // m, w // m, m, d)
    tiles = _times(bases.outputs.T, [rows[..., j, :] for j in range(m)])
    return jnp.stack(tiles, axis=1).reshape((m + 2) ** 2, -1, d)


def _times(matrix: np.ndarray, arrays: Sequence[Array]) -> list[Array]:
    """Returns the product with a list of arrays, without what is 0 times one."""

    def times_row(row: np.ndarray) -> Array:
        terms = [
            float(factor) * array
            for factor, array in zip(row, arrays, strict=True)
            if factor
        ]
        return functools.reduce(operator.add, terms)

    return [times_row(row) for row in matrix]
