"""The low-resolution picture that conditions super-resolution, from bytes to noise.

Noise conditioning augmentation (arXiv:2205.11487, section 2.4): the low-res picture is
diffused like any other, to the log-SNR that a schedule gives at time
aug_level in [0, 1], and the network is told that log-SNR. aug_level 0 is clean and 1 is
noise; it is drawn per picture in training and chosen when sampling (0.1 to 0.3 look
best, D.2). The paper does not say which schedule maps aug_level to SNR: under the
cosine one 0.2 means SNR 8.9, under the linear one 1.9, so a level means nothing without
its schedule.

The order matters: first scale to [-1, 1], then noise; else training and sampling see
different SNRs. The noise is drawn once per picture, before the denoising loop, and is
the same in both halves of a guidance pair.

Downsampling is a box average by an integer factor, everywhere in the package, so that
what super-resolution is trained on has the statistics that the base was trained to
make.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from imagen_jax.diffusion.process import diffuse
from imagen_jax.diffusion.schedule import NoiseSchedule


def to_unit(image: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns bytes as float32 in [-1, 1]: 0 -> -1, 255 -> 1."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(image: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
    """Returns the nearest bytes; values outside [-1, 1] become 0 or 255."""
    levels = jnp.round((image + 1.0) * 127.5)
    return jnp.clip(levels, 0.0, 255.0).astype(jnp.uint8)


def downsample(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b ho wo c"]:
    """Returns the average of each factor x factor square of pixels.

    Args:
      x: pictures whose height and width are multiples of `factor`.
      factor: how many times smaller the result is; 1 returns `x`.

    Raises:
      ValueError: if the size is not a multiple of the factor.
    """
    b, h, w, c = x.shape
    if h % factor or w % factor:
        raise ValueError(
            f"pictures are {h} x {w}; downsampling by {factor} needs multiples of it"
        )
    squares = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return squares.mean(axis=(2, 4))


def upsample(
    x: Float[Array, "b h w c"], size: int, method: str
) -> Float[Array, "b size size c"]:
    """Returns the pictures interpolated to size x size.

    Pixel centres stay aligned (half-pixel convention), so the picture is not shifted.

    Args:
      x: pictures.
      size: new height and width, at least the old ones.
      method: "nearest", "bilinear" or "bicubic". The paper does not say. Bicubic
        overshoots [-1, 1] a little at edges; the result is a network's input only.

    Raises:
      ValueError: on an unknown method.
    """
    if method not in ("nearest", "bilinear", "bicubic"):
        raise ValueError(
            f"upsampling method {method!r} is not one of nearest, bilinear, bicubic"
        )
    return jax.image.resize(x, (x.shape[0], size, size, x.shape[-1]), method)


def augment(
    low_res: Float[Array, "b h w c"],
    aug_level: Float[Array, " b"],
    eps: Float[Array, "b h w c"],
    schedule: NoiseSchedule,
) -> tuple[Float[Array, "b h w c"], Float[Array, " b"]]:
    """Returns the noised low-res pictures and the log-SNR the network is told.

    Args:
      low_res: pictures in [-1, 1].
      aug_level: strength per picture in [0, 1]; 0 = clean, up to the little noise that
        the schedule has at t = 0 (sigma 0.012 under "cosine", 5e-5 under the others).
      eps: standard normal noise, drawn with another key than the diffusion's own.
      schedule: maps aug_level to log-SNR.

    Source: arXiv:2205.11487, section 2.4 and Fig. A.32.
    """
    aug_logsnr = schedule.logsnr(aug_level)
    return diffuse(low_res, eps, aug_logsnr), aug_logsnr
