"""Training crops of a super-resolution stage: a picture's part and its low-res part.

Imagen trains its 1024-pixel stage on 64 -> 256 crops (arXiv:2205.11487, section 2.5).
The whole picture is reduced first and both are cropped afterwards, so the low-res crop
is exactly a part of what sampling will feed. That needs offsets in whole low-res
pixels: multiples of the reduction factor in the large picture.

The offset is a function of the run's seed and the position in its data stream, hence
the same for every host count and after a resume, and another one every epoch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import box_downsample


class CropSpec(NamedTuple):
    """What a crop is: `size` pixels of a picture `factor` times its low-res picture."""

    size: int
    factor: int


def crop_offset(
    seed: int, position: int, resolution: int, crop: CropSpec
) -> tuple[int, int]:
    """Returns the crop's top and left, uniform over multiples of `crop.factor`.

    Args:
      seed: of the run's data order, at least 0.
      position: place in the run's endless stream of records, from 0.
      resolution: side of the whole picture, a multiple of `crop.factor`.
      crop: the crop.
    """
    # 1 keeps these draws apart from the permutations', which have two words of entropy.
    bits = np.random.Philox(np.random.SeedSequence((seed, position, 1)))
    places = (resolution - crop.size) // crop.factor + 1
    top, left = np.random.Generator(bits).integers(0, places, 2) * crop.factor
    return int(top), int(left)


def crop_pair(
    image: UInt8[np.ndarray, "r r 3"], offset: tuple[int, int], crop: CropSpec
) -> tuple[UInt8[np.ndarray, "c c 3"], UInt8[np.ndarray, "l l 3"]]:
    """Returns (crop of the picture, the same part of its reduction).

    Args:
      image: the whole picture.
      offset: top and left in its pixels, multiples of `crop.factor`.
      crop: the crop.
    """
    top, left = offset
    small = box_downsample(image, crop.factor)
    side, up, to = crop.size // crop.factor, top // crop.factor, left // crop.factor
    return (
        np.ascontiguousarray(image[top : top + crop.size, left : left + crop.size]),
        np.ascontiguousarray(small[up : up + side, to : to + side]),
    )
