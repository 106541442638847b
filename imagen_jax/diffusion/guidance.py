"""The null text and classifier-free guidance.

Guided output = w cond + (1 - w) uncond (arXiv:2205.11487, section 2.2): w = 1 switches
guidance off, w > 1 strengthens it. Papers that write (1 + w) cond - w uncond mean by w
one less.

The paper guides eps. At a fixed z, x0 and v are affine functions of eps, and the
weights w and 1 - w sum to 1, so guiding any of the three and converting gives the same
result; hence guidance acts on the network's raw output. (Thresholding is not affine: it
comes after.)

The null text, zero embeddings with only position 0 valid, is one definition for
conditioning dropout, the unconditional branch and empty prompts. Were all n positions
of a zeroed caption valid, n equal keys would join the softmax of the image's own keys,
and the unconditional model would depend on the caption's length.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float

from imagen_jax.diffusion.process import PerPicture, expand
from imagen_jax.interfaces import Conditioning, Denoiser, TextEmbeddings


def null_text(b: int, n: int, d: int, dtype: DTypeLike) -> TextEmbeddings:
    """Returns the text that stands for "no text": zeros `[b n d]`, position 0 valid.

    Position 0 stays valid so that a softmax over text keys alone has a key.

    Args:
      b: pictures.
      n: text tokens, at least 1.
      d: text width.
      dtype: of the embeddings.
    """
    mask = jnp.broadcast_to(jnp.arange(n) == 0, (b, n))
    return TextEmbeddings(embed=jnp.zeros((b, n, d), dtype), mask=mask)


def drop_text(text: TextEmbeddings, drop: Bool[Array, " b"]) -> TextEmbeddings:
    """Returns the captions with those marked in `drop` replaced by the null text.

    Args:
      text: captions.
      drop: True where a caption is dropped; drawn with probability 0.1 in the paper's
        training (section 4.1).
    """
    b, n, d = text.embed.shape
    null = null_text(b, n, d, text.embed.dtype)
    return TextEmbeddings(
        embed=jnp.where(drop[:, None, None], null.embed, text.embed),
        mask=jnp.where(drop[:, None], null.mask, text.mask),
    )


def guide(
    cond: Float[Array, "b h w c"], uncond: Float[Array, "b h w c"], weight: PerPicture
) -> Float[Array, "b h w c"]:
    """Returns w cond + (1 - w) uncond.

    Args:
      cond: output with the caption.
      uncond: output with the null text, or with a negative prompt.
      weight: w; 1 returns `cond`, 0 returns `uncond`.

    Source: arXiv:2205.11487, section 2.2.
    """
    weight = expand(weight, cond)
    return weight * cond + (1.0 - weight) * uncond


def guided_output(
    denoiser: Denoiser,
    z: Float[Array, "b h w c"],
    logsnr: PerPicture,
    cond: Conditioning,
    uncond: Conditioning,
    weight: PerPicture,
) -> Float[Array, "b h w co"]:
    """Returns the guided output of one evaluation on a doubled batch.

    Valid for networks that output eps, v or x0, see the module's docstring.

    Args:
      denoiser: the network.
      z: noisy pictures.
      logsnr: their log-SNR.
      cond: conditioning with the captions.
      uncond: conditioning without; its `low_res` must be the very same noised picture
        as in `cond`, or guidance would amplify the difference of the two noises.
      weight: w, traced, so that changing it does not recompile.
    """
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), cond, uncond)
    logsnrs = jnp.broadcast_to(logsnr, z.shape[:1])
    output = denoiser(
        jnp.concatenate([z, z]), jnp.concatenate([logsnrs, logsnrs]), both
    )
    # In bf16 the weights w and 1 - w would amplify the outputs' rounding.
    cond_output, uncond_output = jnp.split(output.astype(jnp.float32), 2)
    return guide(cond_output, uncond_output, weight)
