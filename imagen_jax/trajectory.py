"""What the network predicts on the way from noise to a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from imagen_jax.errors import UserError
from imagen_jax.pipeline import Pipeline


def predictions(
    model: Pipeline, prompt: str, num_steps: int, at: Sequence[int], **options: Any
) -> UInt8[np.ndarray, "k h w 3"]:
    """Returns the base stage's x0, guided and thresholded, at some steps of a sampling.

    A sampler's result is the x0 of its last step. So the x0 of step k is the result of
    a sampling that takes the first k of the same steps, evenly spaced in time.

    Args:
      model: a cascade of the base stage alone, `load(BASE)`.
      prompt: what is drawn.
      num_steps: of the whole sampling.
      at: steps to show, from 1 to `num_steps`; each is compiled once.
      **options: as for `Pipeline.plan`: seeds (one), guidance, sampler, ...

    Raises:
      UserError: a step that the sampling does not have, or a cascade of more stages.
    """
    if not at or not all(1 <= step <= num_steps for step in at):
        raise UserError(
            f"the steps to show are {list(at)}; give some of 1..{num_steps}"
        )
    if len(model.names) > 1:
        raise UserError(
            f"the cascade has the stages {', '.join(model.names)}; load the base alone"
        )
    times = np.linspace(1.0, 0.0, num_steps + 1).tolist()
    pictures = [
        model(prompt, steps=k, spacing="explicit", times=times[:k], **options)[0]
        for k in at
    ]
    return np.stack(pictures)
