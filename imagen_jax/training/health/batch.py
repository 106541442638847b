"""Facts of a batch: what the train step makes of pictures, text and low-res pictures.

The range of the pictures, the share of empty and of dropped captions, whose low-res
picture each example has, and the noise that is really on it against the noise that the
network is told. All of it is measured on what the step's own functions return.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imagen_jax.diffusion.augmentation import downsample, upsample
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.stage import Stage
from imagen_jax.training.step import Examples, draw_examples

LOGSNR_LIMIT = 10.0  # beyond it, more or less noise makes no difference
NUM_COMPARED = 16  # pictures of a batch whose low-res pictures are compared
NUM_DRAWN = 512  # captions for which a dropout is drawn, about


class Augmentation(NamedTuple):
    """What is done to the low-res pictures, one number per picture.

    Log-SNRs are within +-`LOGSNR_LIMIT`.

    Attributes:
      level: aug_level, in [0, 1].
      meant: the log-SNR that it stands for.
      told: the log-SNR that the network is told.
      seen: the one that a least-squares fit of picture and noise finds in its input.
      inverted: the one that 1 - aug_level would stand for.
      unexplained: share of the input that is neither its picture nor its noise.
      error: RMS difference of the low-res picture and its own picture reduced, in
        [-1, 1] units.
      other_error: the same to the nearest other picture reduced.
    """

    level: Float[Array | np.ndarray, " b"]
    meant: Float[Array | np.ndarray, " b"]
    told: Float[Array | np.ndarray, " b"]
    seen: Float[Array | np.ndarray, " b"]
    inverted: Float[Array | np.ndarray, " b"]
    unexplained: Float[Array | np.ndarray, " b"]
    error: Float[Array | np.ndarray, " b"]
    other_error: Float[Array | np.ndarray, " b"]


class BatchFacts(NamedTuple):
    """What a step makes of a batch.

    Attributes:
      byte_range: lowest and highest of the batch's bytes.
      picture_range: lowest and highest value of what the step makes of them.
      channel_means: means of red, green and blue of the same.
      empty_share: share of captions that say nothing.
      dropped_share: share of the others that the step replaces by the null text.
      num_drawn: for how many captions that was drawn.
      augmentation: of up to `NUM_COMPARED` examples; None for a base stage.
    """

    byte_range: Float[Array | np.ndarray, " 2"]
    picture_range: Float[Array | np.ndarray, " 2"]
    channel_means: Float[Array | np.ndarray, " 3"]
    empty_share: Float[Array | np.ndarray, ""]
    dropped_share: Float[Array | np.ndarray, ""]
    num_drawn: Float[Array | np.ndarray, ""]
    augmentation: Augmentation | None


def batch_facts(
    stage: Stage, root_key: jax.Array, step: Int[Array, ""], batch: Batch
) -> BatchFacts:
    """Returns what the train step makes of a batch.

    Args:
      stage: the stage.
      root_key: the run's key.
      step: whose random numbers are drawn; for the dropout those of later steps too.
      batch: the global batch, pictures as bytes, text as embeddings.
    """
    examples = draw_examples(stage, jax.random.fold_in(root_key, step), batch)
    image = batch.image.astype(jnp.float32)
    dropped, num_drawn = _dropped_share(stage, root_key, step, batch)
    return BatchFacts(
        byte_range=jnp.stack([image.min(), image.max()]),
        picture_range=jnp.stack([examples.x0.min(), examples.x0.max()]),
        channel_means=examples.x0.mean(axis=(0, 1, 2)),
        empty_share=_is_empty(batch.text).mean(),
        dropped_share=dropped,
        num_drawn=num_drawn,
        augmentation=_augmentation(
            stage, jax.tree.map(lambda x: x[:NUM_COMPARED], examples)
        ),
    )


def _is_empty(text) -> Bool[Array, " b"]:
    """Returns which captions have no valid token, or are the null text."""
    assert isinstance(text, TextEmbeddings)  # the loop has encoded tokens
    says_something = text.mask & jnp.any(text.embed != 0, axis=-1)
    return ~jnp.any(says_something, axis=-1)


def _dropped_share(
    stage: Stage, root_key: jax.Array, first: Int[Array, ""], batch: Batch
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the share of captions dropped from this step on, and how many were drawn.

    Captions that are empty already are not counted.
    """
    full = ~_is_empty(batch.text)

    def count(step):
        key = jax.random.fold_in(root_key, step)
        # Compiled, everything that is drawn beside the text falls away.
        return jnp.sum(full & _is_empty(draw_examples(stage, key, batch).text))

    rounds = max(NUM_DRAWN // full.shape[0], 1)
    counts = jax.lax.map(count, first + jnp.arange(rounds))
    num_drawn = jnp.maximum(rounds * full.sum(), 1).astype(jnp.float32)
    return counts.sum() / num_drawn, num_drawn


def _augmentation(stage: Stage, examples: Examples) -> Augmentation | None:
    """Returns how much noise is on what the network is given, told and seen."""
    low_res, level, noise = examples.low_res, examples.aug_level, examples.aug_noise
    cond = stage.condition(examples.text, low_res, level, noise)
    given, told = cond.low_res, cond.aug_logsnr
    if low_res is None or level is None or noise is None:
        return None
    if given is None or told is None:
        return None
    method = stage.config.diffusion.low_res_upsample
    picture = upsample(low_res, given.shape[1], method)
    seen, unexplained = _fit(picture, upsample(noise, given.shape[1], method), given)
    error, other_error = _low_res_errors(examples.x0, low_res)

    def limited(logsnr: jax.Array) -> jax.Array:
        return jnp.clip(logsnr, -LOGSNR_LIMIT, LOGSNR_LIMIT)

    return Augmentation(
        level=level,
        meant=limited(stage.aug_schedule.logsnr(level)),
        told=limited(told),
        seen=limited(seen),
        inverted=limited(stage.aug_schedule.logsnr(1.0 - level)),
        unexplained=unexplained,
        error=error,
        other_error=other_error,
    )


def _fit(
    picture: Float[Array, "b h w 3"],
    noise: Float[Array, "b h w 3"],
    given: Float[Array, "b h w 3"],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Returns the log-SNR of given = a picture + s noise, and the share left over."""

    def dot(a, b):
        return jnp.mean(a * b, axis=(1, 2, 3))

    # The normal equations of the least squares in (a, s).
    pp, pn, nn = dot(picture, picture), dot(picture, noise), dot(noise, noise)
    pg, ng = dot(picture, given), dot(noise, given)
    scale = 1.0 / (pp * nn - pn**2 + 1e-12)
    a, s = (nn * pg - pn * ng) * scale, (pp * ng - pn * pg) * scale
    log_ratio = jnp.log(jnp.abs(a) + 1e-8) - jnp.log(jnp.abs(s) + 1e-8)
    return 2.0 * log_ratio, 1.0 - (a * pg + s * ng) / dot(given, given)


def _low_res_errors(
    x0: Float[Array, "b h w 3"], low_res: Float[Array, "b hl wl 3"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Returns each low-res picture's RMS error to its own and to the nearest other."""
    reduced = downsample(x0, x0.shape[1] // low_res.shape[1])
    errors = jax.vmap(
        lambda one: jnp.sqrt(jnp.mean(jnp.square(one - reduced), axis=(1, 2, 3)))
    )(low_res)
    others = jnp.where(jnp.eye(len(errors), dtype=bool), jnp.inf, errors)
    return jnp.diagonal(errors), others.min(axis=1)
