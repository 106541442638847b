"""Pictures: encoded bytes <-> uint8 arrays, and the one downsampling filter.

Downsampling is a box average by an integer factor, here for numpy and in
`imagen_jax.diffusion.augmentation` for jax; a test keeps them equal to 1 LSB. The base
model trains on box averages and super-resolution is conditioned on box averages, so
that what one stage makes has the statistics the next was trained on (a picture reduced
without a filter aliases, and the base model never produces aliasing).
"""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from imagen_jax.data.records import BadRecordError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before decoding: 64 M pixels are 192 MB of uint8."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""What names of files with pictures end in, in lower case."""


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an encoded picture as RGB; transparency is composited on white.

    The orientation a camera noted in EXIF is applied; of an animation the first frame
    is taken.

    Args:
      data: a whole file in any format that Pillow reads.

    Raises:
      BadRecordError: "corrupt picture" (truncated ones too) or "picture too large".
    """
    with _opened(data) as image:
        return _to_rgb(image)


def decode_square(data: bytes, resolution: int) -> UInt8[np.ndarray, "r r 3"]:
    """Returns `resize_and_crop(decode(data), resolution)`; of a JPEG, in half the time.

    A JPEG is reduced by 2, 4 or 8 while it is decoded, where that divides the integer
    part of the reduction. libjpeg-turbo's reduced inverse transform is the average of
    the pixels of each block, so this is the same box filter: of pixels before they are
    rounded and clipped, and of colours before they are interpolated where the JPEG
    stores these at half the size. The crop then lies at multiples of that factor, up to
    one pixel of the result off the centre.

    Args:
      data: as for `decode`.
      resolution: side of the result in pixels.

    Raises:
      BadRecordError: as `decode` and `resize_and_crop`.
    """
    with _opened(data) as image:
        width, height = image.size
        scale = _jpeg_scale(image, min(width, height) // resolution)
        if scale > 1:
            width, height = width // scale, height // scale
            image.draft(None, (width, height))
            if image.size != (width, height):
                # Cells at the right and lower edges that are not full are left out.
                image = image.crop((0, 0, width, height))
        picture = _to_rgb(image)
    return resize_and_crop(picture, resolution)


def _jpeg_scale(image: Image.Image, factor: int) -> int:
    """Returns 8, 4 or 2 if a JPEG's decoder may reduce by it on the way to `factor`."""
    if image.format != "JPEG" or not factor:
        return 1
    return next((scale for scale in (8, 4, 2) if factor % scale == 0), 1)


def picture_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) of an encoded picture, from its header.

    Args:
      data: a file in any format that Pillow reads; of most the beginning is enough.

    Raises:
      BadRecordError: as `decode`, as far as the header tells.
    """
    with _opened(data) as image:
        return image.size


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Yields an encoded picture; what goes wrong in the block is a bad record."""
    try:
        # Decoders raise nearly every built-in exception on damaged bytes, hence the
        # broad clause: one bad record in a billion must not end a run.
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadRecordError("picture too large", f"{width} x {height} pixels")
            yield image
    except BadRecordError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadRecordError("picture too large", str(error)) from error
    except Exception as error:
        raise BadRecordError(
            "corrupt picture", f"{type(error).__name__}: {error}"
        ) from error


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels, turned as EXIF says; `image` is used up."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey, not scale it
        grey = (np.asarray(image) / 257.0 + 0.5).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode != "RGB" and image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def encode_png(image: UInt8[np.ndarray, "h w 3"], compress_level: int = 1) -> bytes:
    """Returns the picture as a PNG file.

    Args:
      image: RGB.
      compress_level: 0 (none) to 9 (smallest); 1 is several times faster than
        Pillow's default of 6 and little larger on drawings.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def box_downsample(
    image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"], factor: int
) -> UInt8[np.ndarray, "h2 w2 c"] | Float[np.ndarray, "h2 w2 c"]:
    """Returns the average of each `factor` x `factor` block, in the input's dtype.

    Args:
      image: any range; height and width must be multiples of `factor`.
      factor: at least 1. uint8 averages are rounded to nearest, halves upwards.

    Source: arXiv:2205.11487 leaves the filter open; this is the project's choice.
    """
    height, width, channels = image.shape
    if height % factor or width % factor:
        raise ValueError(f"a {height} x {width} picture has no blocks of {factor}")
    if factor == 1:
        return image
    if image.dtype == np.uint8 and channels == 3 and factor & (factor - 1) == 0:
        # The same average many times faster. (Of other factors Pillow rounds some
        # averages the other way.)
        return np.array(Image.fromarray(image).reduce(factor))
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    if image.dtype != np.uint8:
        return blocks.mean(axis=(1, 3), dtype=image.dtype)
    area = factor * factor
    # Rows first: adding whole rows is a contiguous loop, several times faster.
    total = blocks.sum(axis=1, dtype=np.uint32).sum(axis=2, dtype=np.uint32)
    return ((total + area // 2) // area).astype(np.uint8)


def resize_and_crop(
    image: UInt8[np.ndarray, "h w 3"], resolution: int
) -> UInt8[np.ndarray, "r r 3"]:
    """Returns the central square of the picture at `resolution`.

    The largest integer part of the reduction is the box average; what remains, a
    factor below 2, is done by Pillow's antialiased Hamming filter (no negative lobes,
    hence no halos around outlines). A side that is a multiple of `resolution` gets
    the box average alone.

    Args:
      image: RGB of any size.
      resolution: side of the result in pixels.

    Raises:
      BadRecordError: "picture too small": enlarging would teach the model blur.
    """
    height, width, _ = image.shape
    side = min(height, width)
    if side < resolution:
        raise BadRecordError(
            "picture too small", f"{width} x {height}, {resolution} needed"
        )
    factor = side // resolution
    side -= side % factor
    top, left = (height - side) // 2, (width - side) // 2
    square = box_downsample(image[top : top + side, left : left + side], factor)
    if len(square) == resolution:
        return np.ascontiguousarray(square)
    resized = Image.fromarray(np.ascontiguousarray(square)).resize(
        (resolution, resolution), Image.Resampling.HAMMING
    )
    return np.array(resized)
