"""A few pictures of a source with their true low-res, to look at a stage alone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import box_downsample, decode, resize_and_crop
from imagen_jax.data.records import Source


class Probe(NamedTuple):
    """Pictures, their captions and what a super-resolution stage would be given.

    `low_res` is None for a base stage.
    """

    captions: list[str]
    image: UInt8[np.ndarray, "n r r 3"]
    low_res: UInt8[np.ndarray, "n l l 3"] | None


def read_probe(
    source: Source, count: int, resolution: int, low_res_resolution: int = 0
) -> Probe:
    """Returns `count` records of the source, evenly spaced.

    Args:
      source: where records come from, at least one.
      count: how many, at least 1; records repeat where the source has fewer.
      resolution: side of the pictures.
      low_res_resolution: side of the low-res pictures, a divisor of `resolution`; 0
        makes none.

    Raises:
      BadRecordError: one of them cannot be decoded.
    """
    rows = np.linspace(0, len(source) - 1, count).astype(int)
    records = [source[int(row)] for row in rows]
    image = np.stack(
        [resize_and_crop(decode(record.image), resolution) for record in records]
    )
    low_res = None
    if low_res_resolution:
        factor = resolution // low_res_resolution
        low_res = np.stack([box_downsample(picture, factor) for picture in image])
    return Probe([record.caption for record in records], image, low_res)
