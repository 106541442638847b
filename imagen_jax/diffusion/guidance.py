"""The null text and classifier-free guidance.

Guided output = w cond + (1 - w) uncond (arXiv:2205.11487, section 2.2): w = 1 switches
guidance off, w > 1 strengthens it. Papers that write (1 + w) cond - w uncond mean by w
one less.

The paper guides eps. At a fixed z, x0 and v are affine functions of eps, and the
weights w and 1 - w sum to 1, so guiding any of the three and converting gives the same
result; hence guidance acts on the network's raw output. (Thresholding is not affine: it
comes after.)

Beyond the paper:

  over the steps  w is an array, one entry per step: `guidance_weights`
  by noise level  w = 1 outside an interval of log-SNR: `weight_in_interval`
  rescaled        the guided output is brought back to the contrast of cond: `rescale`
  another null    uncond may be a negative prompt instead of the null text
  two prompts     cond may be a blend of the outputs for two of them: `guided_output`

The null text, zero embeddings with only position 0 valid, is one definition for
conditioning dropout, the unconditional branch and empty prompts. Were all n positions
of a zeroed caption valid, n equal keys would join the softmax of the image's own keys,
and the unconditional model would depend on the caption's length.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
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


def guidance_weights(
    kind: str, num_steps: int, weight: float, low: float = 1.0, hold: float = 0.1
) -> Float[np.ndarray, " s"]:
    """Returns the guidance weight of each step, float32.

    Args:
      kind: "constant", or "oscillating": `weight` for the first steps, then `low` and
        `weight` in turn. A high weight at every step saturates; in turn with a low one
        it keeps the alignment (Imagen Video: 15 and 1).
      num_steps: of the sampler.
      weight: w.
      low: the lower w of "oscillating".
      hold: share of the steps, rounded up, that come before "oscillating" begins.

    Raises:
      ValueError: on an unknown kind.

    Source: Imagen Video, arXiv:2210.02303 (there written as w - 1).
    """
    weights = np.full(num_steps, weight, np.float32)
    match kind:
        case "constant":
            return weights
        case "oscillating":
            weights[math.ceil(hold * num_steps) :: 2] = low
            return weights
        case _:
            raise ValueError(f"guidance {kind!r} is not one of constant, oscillating")


def weight_in_interval(
    weight: PerPicture, logsnr: PerPicture, interval: Float[Array, " 2"]
) -> PerPicture:
    """Returns the weight where log-SNR is in [interval[0], interval[1]], 1 elsewhere.

    Guidance at the highest noise costs diversity, and at the lowest it does nothing for
    alignment. The paper's interval is one of sigma = exp(-logsnr / 2).

    Source: arXiv:2404.07724.
    """
    inside = (logsnr >= interval[0]) & (logsnr <= interval[1])
    return jnp.where(inside, weight, 1.0)


def rescale(
    guided: Float[Array, "b h w c"],
    cond: Float[Array, "b h w c"],
    share: float | Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns the guided output scaled towards the standard deviation of `cond`.

    Guidance raises the contrast; this takes a share of that back. Unlike guidance
    it depends on what the output means (eps, v or x0); as in the paper, whose network
    outputs v, it acts on the network's own.

    Args:
      guided: output after guidance.
      cond: output with the caption.
      share: phi, 0 = off, 1 = the whole standard deviation; the paper likes 0.7.

    Source: arXiv:2305.08891, section 3.4.
    """
    std_cond, std_guided = (
        jnp.std(output, axis=(1, 2, 3), keepdims=True) for output in (cond, guided)
    )
    factor = jnp.where(std_guided > 0.0, std_cond / std_guided, 1.0)
    return guided * (share * factor + (1.0 - share))


def guided_output(
    denoiser: Denoiser,
    z: Float[Array, "b h w c"],
    logsnr: PerPicture,
    cond: Conditioning,
    uncond: Conditioning | None,
    weight: PerPicture,
    *,
    second: Conditioning | None = None,
    blend: PerPicture | float = 0.5,
    rescale_share: float | Float[Array, ""] = 0.0,
) -> Float[Array, "b h w co"]:
    """Returns the guided output of one evaluation on a doubled (or tripled) batch.

    Valid for networks that output eps, v or x0, see the module's docstring.

    Args:
      denoiser: the network.
      z: noisy pictures.
      logsnr: their log-SNR.
      cond: conditioning with the captions.
      uncond: conditioning without, or with negative prompts; None leaves guidance out.
        Its `low_res` must be the very same noised picture as in `cond`, or guidance
        would amplify the difference of the two noises.
      weight: w, traced, so that changing it does not recompile.
      second: conditioning with a second prompt; None for one prompt alone. Like
        `uncond` it shares `low_res` with `cond`.
      blend: share of the second prompt's output in cond, in [0, 1].
      rescale_share: see `rescale`.
    """
    given = [each for each in (cond, second, uncond) if each is not None]
    stacked = jax.tree.map(lambda *parts: jnp.concatenate(parts), *given)
    logsnrs = jnp.broadcast_to(logsnr, z.shape[:1])
    copies = len(given)
    output = denoiser(
        jnp.concatenate([z] * copies), jnp.concatenate([logsnrs] * copies), stacked
    )
    # In bf16 the weights w and 1 - w would amplify the outputs' rounding.
    outputs = iter(jnp.split(output.astype(jnp.float32), copies))
    cond_output = next(outputs)
    if second is not None:
        cond_output = guide(next(outputs), cond_output, jnp.asarray(blend))
    if uncond is None:
        return cond_output
    guided = guide(cond_output, next(outputs), weight)
    return rescale(guided, cond_output, rescale_share)
