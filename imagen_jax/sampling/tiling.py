"""Enlarging a picture of any size by one stage, in tiles that overlap.

A super-resolution network is trained at one size. A larger low-res picture is cut into
tiles of that size; neighbours share at least `overlap` low-res pixels, and there one
result fades into the other. All weights of a pixel sum to 1, and a tile's outermost
pixels, where the network sees no surroundings, have weight 0 (except at the picture's
own border): whatever all tiles agree on is reproduced.

Tiles begin at whole low-res pixels, and their noise is cut from one field over the
whole picture (`noise.field_noise_of`), so that in an overlap both draw from the same
noise, and the result depends on the seed and the tiling alone, not on the batches.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.edits import Edit
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import Params


class Tiling(NamedTuple):
    """Tiles of a picture, in low-res pixels.

    Attributes:
      height: of the picture, at least `tile`.
      width: of the picture, at least `tile`.
      tile: side of a tile.
      overlap: what neighbours share at least, in [0, tile).
    """

    height: int
    width: int
    tile: int
    overlap: int

    @property
    def offsets(self) -> Int[np.ndarray, "n 2"]:
        """Row and column of each tile's first pixel, row by row."""
        rows, columns = (self._starts(n) for n in (self.height, self.width))
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)

    def weights(
        self, offset: Int[np.ndarray, " 2"], scale: int
    ) -> Float[np.ndarray, "t t"]:
        """Returns the weight of each of a tile's pixels, `scale` times enlarged."""
        lengths = (self.height, self.width)
        row, column = (
            blend_weights(self._starts(length), self.tile, self.overlap, start, scale)
            for length, start in zip(lengths, offset.tolist(), strict=True)
        )
        return row[:, None] * column[None, :]

    def _starts(self, length: int) -> Int[np.ndarray, " n"]:
        """Returns where tiles start along one axis: as few as possible, evenly."""
        room = length - self.tile
        count = 1 + -(-room // (self.tile - self.overlap))
        return np.round(np.linspace(0, room, count)).astype(int)


def blend_weights(
    starts: Int[np.ndarray, " n"], tile: int, overlap: int, start: int, scale: int
) -> Float[np.ndarray, " t"]:
    """Returns the weights, along one axis, of the pixels made from one tile.

    Between neighbours the weight passes smoothly over half of `overlap`, in the middle
    of what they share. Tile i's weight is S_i - S_(i + 1) with S_i the passage into
    tile i: these fall in i, so no weight is negative, and the sum over tiles is 1.

    Args:
      starts: of all tiles along this axis, rising, in low-res pixels.
      tile: side of a tile.
      overlap: the least that neighbours share.
      start: the tile's own, one of `starts`.
      scale: pixels per low-res pixel.
    """
    place = int(np.searchsorted(starts, start))
    centres = start + (np.arange(tile * scale) + 0.5) / scale  # in low-res pixels

    def passage(i: int) -> Float[np.ndarray, " t"]:
        if i in (0, len(starts)):
            return np.full(centres.shape, 1.0 if i == 0 else 0.0)
        middle = 0.5 * (starts[i] + starts[i - 1] + tile)
        width = max(0.5 * overlap, 1e-6)  # without overlap a step
        share = np.clip((centres - middle) / width + 0.5, 0.0, 1.0)
        return share * share * (3.0 - 2.0 * share)

    return passage(place) - passage(place + 1)


def tiled(
    low_res: UInt8[np.ndarray, "h w 3"],
    enlarge: Callable[
        [UInt8[np.ndarray, "b t t 3"], Int[np.ndarray, "b 2"]],
        Float[np.ndarray, "b u u 3"],
    ],
    tile: int,
    scale: int,
    *,
    overlap: int,
    batch_size: int,
) -> Float[np.ndarray, "hs ws 3"]:
    """Returns the enlarged picture, put together from enlarged tiles.

    Args:
      low_res: of any size; one smaller than a tile is continued by its border pixels
        and cropped again.
      enlarge: (tiles, their offsets) -> the tiles, `scale` times larger. Called with
        `batch_size` tiles each time; a last, smaller part is padded by wrapping.
      tile: side of the tiles.
      scale: how many times larger the result is.
      overlap: low-res pixels that neighbours share at least.
      batch_size: at least 1.

    Raises:
      UserError: the overlap is not in [0, tile / 2].
    """
    if not 0 <= overlap <= tile // 2:
        raise UserError(
            f"the overlap is {overlap}; it must be from 0 to half of a tile, which has "
            f"{tile} pixels here"
        )
    height, width, _ = low_res.shape
    missing = [(0, max(tile - length, 0)) for length in (height, width)]
    padded = np.pad(low_res, (*missing, (0, 0)), mode="edge")
    tiling = Tiling(len(padded), padded.shape[1], tile, overlap)
    result = np.zeros((len(padded) * scale, padded.shape[1] * scale, 3), np.float32)
    for offset, made in _made_tiles(padded, tiling, enlarge, batch_size):
        rows, columns = (slice(o * scale, (o + tile) * scale) for o in offset)
        result[rows, columns] += tiling.weights(offset, scale)[..., None] * made
    return result[: height * scale, : width * scale]


def _made_tiles(
    padded: UInt8[np.ndarray, "h w 3"],
    tiling: Tiling,
    enlarge: Callable[..., np.ndarray],
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (offset, enlarged tile) of every tile."""
    offsets = tiling.offsets
    for start in range(0, len(offsets), batch_size):
        part = offsets[np.arange(start, start + batch_size) % len(offsets)]
        tiles = [padded[y : y + tiling.tile, x : x + tiling.tile] for y, x in part]
        made = enlarge(np.stack(tiles), part)
        yield from zip(offsets[start : start + batch_size], made, strict=False)


def upscale_picture(
    sampler: Sampler,
    params: Params,
    text: TextEmbeddings,
    low_res: UInt8[np.ndarray, "h w 3"],
    seed: int,
    *,
    overlap: int | None = None,
    batch_size: int = 4,
    report: Callable[[int], object] = lambda num: None,
) -> UInt8[np.ndarray, "hs ws 3"]:
    """Returns a picture enlarged by a super-resolution stage.

    Args:
      sampler: of the stage.
      params: of the stage.
      text: the picture's embedded caption, a batch of one, numpy.
      low_res: the picture, of any size.
      seed: of the picture's noise.
      overlap: low-res pixels that tiles share; None = a quarter of a tile.
      batch_size: tiles per call.
      report: called with the number of tiles made after each call.
    """
    stage = sampler.stage
    tile = stage.low_res_resolution
    settings = sampling_params(sampler.config, np.full(batch_size, seed))
    texts = jax.tree.map(lambda leaf: np.repeat(leaf, batch_size, axis=0), text)

    def enlarge(tiles, offsets):
        made = sampler(
            params,
            texts,
            settings,
            to_unit(jnp.asarray(tiles)),
            edit=Edit(offsets=jnp.asarray(offsets, jnp.int32)),
        )
        report(len(tiles))
        return np.asarray(made)

    result = tiled(
        low_res,
        enlarge,
        tile,
        stage.config.resolution // tile,
        overlap=tile // 4 if overlap is None else overlap,
        batch_size=batch_size,
    )
    return np.asarray(to_uint8(jnp.asarray(result)[None]))[0]
