"""Whether a super-resolution stage adds detail and keeps to the picture it was given.

Three figures, each measured per picture on true low-resolution inputs (box averages of
real pictures), in dB of PSNR:

  gain: PSNR(output, truth) - PSNR(bicubic(low_res), truth). Above 0 the stage draws
    detail that interpolation cannot; one that only blurs stays at or below 0.
  consistency: PSNR(box(output), low_res). A stage that invents another picture is low.
  swap: consistency minus the same PSNR against the other pictures' low_res. A stage
    that ignores its input is as near to any of them: the difference is then about 0.

Low resolution here is always the box average (`imagen_jax.data.images`).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from imagen_jax.data.images import box_downsample

PEAK = 255.0
# The mean square error of rounding to 8 bits: below it two pictures are the same to
# what uint8 can hold, so PSNR ends at 58.9 dB and means of it stay finite.
MIN_SQUARE_ERROR = 1.0 / 12.0


class SRMetrics(NamedTuple):
    """The three figures, one value per picture, in dB.

    `swap_db` is None for a single picture: there is no other to compare with.
    """

    gain_db: Float[np.ndarray, " b"]
    consistency_db: Float[np.ndarray, " b"]
    swap_db: Float[np.ndarray, " b"] | None


def psnr(
    a: UInt8[np.ndarray, "b h w c"], b: UInt8[np.ndarray, "b h w c"]
) -> Float[np.ndarray, " b"]:
    """Returns each pair's peak signal-to-noise ratio in dB, at most 58.9.

    Args:
      a: pictures, uint8 (peak 255).
      b: the pictures they are compared with; the order does not matter.
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    square_error = np.mean(difference**2, axis=(1, 2, 3))
    return 10.0 * np.log10(PEAK**2 / np.maximum(square_error, MIN_SQUARE_ERROR))


def upsample_bicubic(
    low_res: UInt8[np.ndarray, "b h w 3"], size: int
) -> UInt8[np.ndarray, "b size size 3"]:
    """Returns Pillow's bicubic enlargement, the baseline of `gain_db`."""
    enlarged = [
        Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
        for picture in low_res
    ]
    return np.stack([np.asarray(picture) for picture in enlarged])


def consistency(
    output: UInt8[np.ndarray, "b h w 3"], low_res: UInt8[np.ndarray, "b hl wl 3"]
) -> Float[np.ndarray, " b"]:
    """Returns each output's PSNR, reduced to the size of its low-res picture, to it."""
    return psnr(_reduced(output, low_res), low_res)


def sr_metrics(
    output: UInt8[np.ndarray, "b h w 3"],
    truth: UInt8[np.ndarray, "b h w 3"],
    low_res: UInt8[np.ndarray, "b hl wl 3"],
) -> SRMetrics:
    """Returns gain, consistency and swap of a stage's outputs.

    Args:
      output: the stage's pictures.
      truth: the real pictures, of the same resolution.
      low_res: their box averages, from which `output` was made.
    """
    gain = psnr(output, truth) - psnr(upsample_bicubic(low_res, output.shape[1]), truth)
    reduced = _reduced(output, low_res)
    own = psnr(reduced, low_res)
    if len(output) < 2:
        return SRMetrics(gain, own, None)
    others = [
        psnr(reduced, np.roll(low_res, shift, axis=0))
        for shift in range(1, len(output))
    ]
    return SRMetrics(gain, own, own - np.mean(others, axis=0))


def _reduced(
    output: UInt8[np.ndarray, "b h w 3"], low_res: UInt8[np.ndarray, "b hl wl 3"]
) -> UInt8[np.ndarray, "b hl wl 3"]:
    factor = output.shape[1] // low_res.shape[1]
    return np.stack([box_downsample(one, factor) for one in output])
