"""The noise of pictures, by seed.

Picture i's noise depends on its own seed alone, never on the batch it is in:
key = fold_in(fold_in(key(seed), resolution), purpose).

Tiles of one large picture draw theirs from one field that covers it: each low-res pixel
(row, column) has the key fold_in(fold_in(picture's key, row), column), which gives the
noise of all pixels made from it. Where two tiles overlap they see the same noise,
whatever the tiling.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

# What a picture's key is folded with. Step i's noise takes FIRST_STEP + i, and so do
# the known pixels after visit i and the jump before it.
INITIAL_NOISE, AUGMENTATION_NOISE, FIRST_STEP = 0, 1, 2
FIRST_KNOWN, FIRST_JUMP = 1 << 20, 1 << 21

DrawFn = Callable[[int | Int[Array, ""], tuple[int, ...]], Float[Array, "b h w c"]]
"""(purpose, shape of a picture) -> standard normal noise, one per picture."""


def noise_of(seeds: UInt32[Array, " b"], size: int) -> DrawFn:
    """Returns (purpose, shape) -> standard normal noise, each picture's by its seed.

    Args:
      seeds: one per picture.
      size: of the stage's pictures; the stages of a cascade draw different noise.
    """
    keys = _keys(seeds, size)

    def noise(purpose, shape):
        def one(key):
            return jax.random.normal(jax.random.fold_in(key, purpose), shape)

        return jax.vmap(one)(keys)

    return noise


def field_noise_of(
    seeds: UInt32[Array, " b"], size: int, offsets: Int[Array, "b 2"], cells: int
) -> DrawFn:
    """Returns (purpose, shape) -> the noise of tiles, cut from each seed's field.

    Args:
      seeds: one per tile; the tiles of one picture share theirs.
      size: of the stage's pictures, that is of a tile.
      offsets: row and column of each tile's first low-res pixel.
      cells: low-res pixels on a tile's side; they divide the shapes asked for.
    """
    keys = _keys(seeds, size)

    def noise(purpose, shape):
        height, width, channels = shape
        block = (height // cells, width // cells, channels)

        def one(key, offset):
            key = jax.random.fold_in(key, purpose)
            rows, columns = offset[:, None] + jnp.arange(cells)

            def cell(row_key, column):
                return jax.random.normal(jax.random.fold_in(row_key, column), block)

            row_keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
            by_row = jax.vmap(jax.vmap(cell, (None, 0)), (0, None))
            field = by_row(row_keys, columns)  # rows columns block
            return field.transpose(0, 2, 1, 3, 4).reshape(shape)

        return jax.vmap(one)(keys, offsets)

    return noise


def _keys(seeds: UInt32[Array, " b"], size: int) -> jax.Array:
    return jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), size))(seeds)
