"""Colours of an enlarged picture against those of the picture it was made from.

A super-resolution stage may shift colours over large areas: an error of low frequency,
which the eye sees at once. With D the box average to the low resolution and L a
Gaussian blur there,

  difference = L(D(output)) - L(low_res)

in 8-bit levels. The correction exchanges the low band of the output for that of the
low-res picture and leaves the detail as it is:

  output - U(difference),  U = bilinear enlargement

A constant shift is removed exactly, up to rounding and to clipping at 0 and 255.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from imagen_jax.data.images import box_downsample

BLUR = 4.0
"""Standard deviation of the blur L, in low-res pixels."""


class ColourReport(NamedTuple):
    """How far the colours of a picture moved, in 8-bit levels.

    Attributes:
      shift: mean difference of red, green and blue; positive is brighter.
      mean: mean absolute difference.
      largest: the largest absolute difference of any channel anywhere.
    """

    shift: tuple[float, float, float]
    mean: float
    largest: float

    def __str__(self) -> str:
        """Returns one line for the terminal."""
        red, green, blue = self.shift
        return (
            f"colour shift {red:+.2f} {green:+.2f} {blue:+.2f} (R G B), mean "
            f"{self.mean:.2f}, largest {self.largest:.2f} of 255"
        )


def colour_report(
    output: UInt8[np.ndarray, "h w 3"], low_res: UInt8[np.ndarray, "hl wl 3"]
) -> ColourReport:
    """Returns how far the low frequencies of a picture are from its low-res picture's.

    Args:
      output: the enlarged picture, an integer factor larger.
      low_res: what it was made from.
    """
    difference = low_difference(output, low_res)
    red, green, blue = difference.mean(axis=(0, 1)).tolist()
    size = np.abs(difference)
    return ColourReport((red, green, blue), float(size.mean()), float(size.max()))


def correct_colour(
    output: UInt8[np.ndarray, "h w 3"], low_res: UInt8[np.ndarray, "hl wl 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture with the low frequencies of its low-res picture.

    Args:
      output: the enlarged picture, an integer factor larger.
      low_res: what it was made from.
    """
    size = output.shape[1], output.shape[0]
    difference = low_difference(output, low_res)
    enlarged = [
        Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR)
        for channel in np.moveaxis(difference, -1, 0)
    ]
    corrected = output - np.stack([np.asarray(channel) for channel in enlarged], -1)
    return np.clip(np.round(corrected), 0, 255).astype(np.uint8)


def low_difference(
    output: UInt8[np.ndarray, "h w 3"], low_res: UInt8[np.ndarray, "hl wl 3"]
) -> Float[np.ndarray, "hl wl 3"]:
    """Returns the low band of (output - low_res) at low resolution, in levels."""
    reduced = box_downsample(output.astype(np.float32), len(output) // len(low_res))
    return blur(reduced - low_res.astype(np.float32), BLUR)


def blur(x: Float[np.ndarray, "h w c"], std: float) -> Float[np.ndarray, "h w c"]:
    """Returns x blurred by a Gaussian; the picture is mirrored at its border.

    Args:
      x: any range; its mean is kept up to rounding.
      std: standard deviation in pixels, above 0; the kernel ends at 3 of them.
    """
    radius = int(np.ceil(3.0 * std))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / std) ** 2)
    kernel = (kernel / kernel.sum()).astype(x.dtype)
    for axis in (0, 1):
        around = [(0, 0)] * 3
        around[axis] = (radius, radius)
        padded = np.pad(x, around, mode="symmetric")
        length = x.shape[axis]
        x = np.zeros_like(x)
        for i, weight in enumerate(kernel):
            x += weight * np.take(padded, range(i, i + length), axis)
    return x
