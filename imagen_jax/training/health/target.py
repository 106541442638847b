"""Whether the loss and the sampler agree on what the network's output means.

They do if the output that the sampler reads as the true picture has no loss. What the
sampler reads is affine in the output, so that output is known without a network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagen_jax.diffusion.loss import denoising_loss
from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.diffusion.process import diffuse
from imagen_jax.interfaces import Batch, Conditioning
from imagen_jax.stage import Stage
from imagen_jax.training.step import draw_examples

LOGSNR_RANGE = (-8.0, 8.0)  # where float32 can solve for the output


class TargetFacts(NamedTuple):
    """Square errors of two outputs, as shares of the error of no output at all.

    Attributes:
      ideal: of the output which the sampler reads as the true picture.
      opposite: of the same with its sign flipped.
    """

    ideal: Float[Array | np.ndarray, ""]
    opposite: Float[Array | np.ndarray, ""]


def target_facts(
    stage: Stage, root_key: jax.Array, step: Int[Array, ""], batch: Batch
) -> TargetFacts:
    """Returns the errors that the loss gives the two outputs, over a batch.

    Args:
      stage: the stage.
      root_key: the run's key.
      step: whose noise is drawn.
      batch: the global batch.
    """
    examples = draw_examples(stage, jax.random.fold_in(root_key, step), batch)
    x0, settings = examples.x0, stage.config.diffusion
    times = stage.schedule.t(jnp.linspace(*LOGSNR_RANGE, x0.shape[0]))
    logsnr = stage.schedule.logsnr(times)
    z = diffuse(x0, examples.eps, logsnr)

    def read(output: jax.Array) -> jax.Array:
        return to_prediction(settings.prediction, output, z, logsnr).x0

    def square_error(output: jax.Array) -> jax.Array:
        return denoising_loss(
            lambda z, logsnr, cond: output,
            stage.schedule,
            x0,
            examples.eps,
            times,
            Conditioning(examples.text.embed, examples.text.mask),
            prediction=settings.prediction,
            weighting=settings.weighting,
        ).square_error.mean()

    nothing = jnp.zeros_like(x0)
    offset = read(nothing)
    ideal = (x0 - offset) / (read(jnp.ones_like(x0)) - offset)
    whole = square_error(nothing) + 1e-12
    return TargetFacts(square_error(ideal) / whole, square_error(-ideal) / whole)
