"""Parts of a map that convolutions on CPUs take one after the other.

They make several times a map's size of intermediate results, which stay in the cache
where the part is small.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def in_parts(x: Float[Array, "b h w c"]) -> Float[Array, "p b2 h w c"]:
    """Returns x with an axis of devices that may hold a part of the batch each.

    Chunks are taken of each part, so no device needs what another one holds.
    """
    parts = math.gcd(x.shape[0], jax.device_count())
    return x.reshape(parts, -1, *x.shape[1:])


class Chunks(NamedTuple):
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
    def of(cls, shape: tuple[int, ...], pixels: int, size: int) -> "Chunks":
        """Returns chunks of at most `pixels`, and of one row at least."""
        b, h, w, _ = shape
        rows = largest_divisor(h, pixels // w)
        pictures = largest_divisor(b, pixels // (h * w)) if rows == h else 1
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


def largest_divisor(number: int, limit: int) -> int:
    """Returns the largest divisor of `number` that is at most max(limit, 1)."""
    return max(n for n in range(1, max(min(number, limit), 1) + 1) if number % n == 0)
