"""Facts of a stage's errors: by log-SNR, and of colour.

The square error in each bin of log-SNR is compared with that of the best constant, in
closed form: 1 for eps, Var[x0] for x0, alpha^2 + sigma^2 Var[x0] for v.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagen_jax.diffusion.loss import denoising_loss
from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.process import alpha_sigma, diffuse
from imagen_jax.interfaces import Batch
from imagen_jax.stage import Params, Stage
from imagen_jax.training.logsnr_bins import bin_members
from imagen_jax.training.step import Examples, draw_examples

BIN_EDGES = (-8.0, -4.0, 0.0, 4.0, 8.0)  # in log-SNR
COLOUR_RANGE = (-4.0, 4.0)  # where colour is decided: noisy, but not all noise
MIN_CONSTANT = 1e-6  # pictures of one colour leave a constant no error


class ErrorFacts(NamedTuple):
    """Errors by log-SNR bin, NaN in a bin without examples.

    Attributes:
      learned: the square error in the network's own space.
      constant: that of the best constant.
      colour_drift: mean of predicted minus true x0 per channel, in [-1, 1] units.
    """

    learned: Float[Array | np.ndarray, " k"]
    constant: Float[Array | np.ndarray, " k"]
    colour_drift: Float[Array | np.ndarray, " 3"]


def error_facts(
    stage: Stage,
    params: Params,
    root_key: jax.Array,
    step: Int[Array, ""],
    batch: Batch,
) -> ErrorFacts:
    """Returns the errors on a batch, its examples spread evenly over `BIN_EDGES`.

    Args:
      stage: the stage.
      params: whose errors.
      root_key: the run's key.
      step: whose noise is drawn.
      batch: the global batch; taken in `train.microbatches` parts.
    """
    examples = draw_examples(stage, jax.random.fold_in(root_key, step), batch)
    b, parts = examples.t.shape[0], stage.config.train.microbatches
    place = (jnp.arange(b) + 0.5) / b
    logsnr = BIN_EDGES[0] + place * (BIN_EDGES[-1] - BIN_EDGES[0])
    examples = examples._replace(t=stage.schedule.t(logsnr))
    variance = jnp.var(examples.x0, axis=(0, 1, 2)).mean()
    split = jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), examples
    )
    _, errors = jax.lax.scan(
        lambda _, part: (None, _example_errors(stage, params, variance, part)),
        None,
        split,
        unroll=parts if stage.unroll else 1,
    )
    errors = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(b, *x.shape[2:]), errors)
    member = bin_members(logsnr, BIN_EDGES)
    mean = member / member.sum(1, keepdims=True)  # [k b]; NaN in an empty bin
    low, high = COLOUR_RANGE
    coloured = (logsnr > low) & (logsnr < high)
    return ErrorFacts(
        learned=mean @ errors.learned,
        constant=mean @ errors.constant,
        colour_drift=coloured @ errors.colour_drift / coloured.sum(),
    )


def _example_errors(
    stage: Stage, params: Params, variance: Float[Array, ""], examples: Examples
) -> ErrorFacts:
    """Returns the same facts of each example; every leaf begins with b."""
    settings, x0 = stage.config.diffusion, examples.x0
    logsnr = stage.schedule.logsnr(examples.t)
    z = diffuse(x0, examples.eps, logsnr)
    cond = stage.condition(
        examples.text, examples.low_res, examples.aug_level, examples.aug_noise
    )
    output = stage.denoiser(params)(z, logsnr, cond).astype(jnp.float32)
    loss = denoising_loss(
        lambda z, logsnr, cond: output,
        stage.schedule,
        x0,
        examples.eps,
        examples.t,
        cond,
        prediction=settings.prediction,
        weighting=settings.weighting,
    )
    alpha, sigma = alpha_sigma(logsnr)
    constant = {
        "eps": jnp.ones_like(alpha),
        "x0": jnp.full_like(alpha, variance),
        "v": alpha**2 + sigma**2 * variance,
    }[settings.prediction]
    drift = to_prediction(settings.prediction, output, z, logsnr).x0 - x0
    return ErrorFacts(
        learned=loss.square_error,
        constant=jnp.maximum(constant, MIN_CONSTANT),
        colour_drift=drift.mean(axis=(1, 2)),
    )
