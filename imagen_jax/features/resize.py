"""The resize of clean-fid (arXiv:2104.11222): antialiased bicubic, without rounding.

FID depends on how pictures are brought to the network's size: a bicubic filter without
antialiasing moves it by 6 and more. clean-fid takes Pillow's filter, whose width grows
with the reduction, on each channel as float32, and does not round to uint8 afterwards.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

NAME = "bicubic, antialiased, float32 (clean-fid)"
"""What manifests call it."""


def resize(
    picture: UInt8[np.ndarray, "h w 3"], size: int
) -> Float[np.ndarray, "{size} {size} 3"]:
    """Returns the picture at `size` x `size`, float32 in [0, 255].

    A picture that is not square is squeezed; crop it before if that is not wanted.

    Args:
      picture: RGB.
      size: side of the result in pixels. A picture of that size is unchanged.

    Source: arXiv:2104.11222, section 3; the clip to [0, 255] is of its published code.
    """
    channels = [
        Image.fromarray(picture[..., channel].astype(np.float32)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1).clip(0, 255)
