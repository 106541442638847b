"""The cascade: each stage conditioned on the text and on the stage before it.

Paper, section 2.4: text -> 64 pixels -> 256 -> 1024. A stage's pictures go to the next
as floats in [-1, 1]; bytes are made only at the edge.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32

from imagen_jax.cascade_config import check_cascade as check_configs
from imagen_jax.diffusion.augmentation import to_uint8
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.edits import Edit
from imagen_jax.sampling.room import naming_the_stage
from imagen_jax.sampling.sampler import Sampler, SamplingParams, sampling_params
from imagen_jax.stage import Params, Stage


class CascadeStage(NamedTuple):
    """A stage's compiled sampler and what it runs with.

    Attributes:
      sampler: compiled for the config's kind, number of steps and thresholding.
      params: the parameters, or () -> them: called when the stage's turn comes, and let
        go after it.
      config: values of this call; None takes the sampler's own.
      logsnrs: noise levels of its steps; None takes the sampler's own.
    """

    sampler: Sampler
    params: Params | Callable[[], Params]
    config: SamplerConfig | None = None
    logsnrs: Float[np.ndarray, " n"] | None = None


class Texts(NamedTuple):
    """What is drawn: embeddings, numpy, one row per picture.

    Attributes:
      prompts: what to draw.
      negatives: what guidance leads away from; None is the null text.
      seconds: to blend with the first; None for none.
      blend: share of the second, in [0, 1].
    """

    prompts: TextEmbeddings
    negatives: TextEmbeddings | None = None
    seconds: TextEmbeddings | None = None
    blend: float = 0.5


class Part(NamedTuple):
    """Pictures that one call of a stage has made.

    Attributes:
      stage: its name.
      start: index of the first picture among all.
      pictures: without the padding.
    """

    stage: str
    start: int
    pictures: UInt8[np.ndarray, "b h w 3"]


EditFn = Callable[
    [CascadeStage, SamplingParams, Int[np.ndarray, " b"]],
    tuple[SamplingParams, Edit | None],
]
"""(stage, its settings, rows of a call) -> settings and edit of that call."""


def check_cascade(stages: Sequence[Stage]) -> None:
    """Raises a UserError where a stage does not take what the one before it makes."""
    check_configs([stage.config for stage in stages])


def sample_cascade(
    stages: Sequence[CascadeStage],
    texts: Texts,
    seeds: UInt32[np.ndarray, " b"],
    *,
    batch_size: int,
    put: Callable[[Any], Any] = jax.device_put,
    report: Callable[[Part], None] = lambda part: None,
    edit_fn: EditFn = lambda stage, settings, rows: (settings, None),
) -> list[UInt8[np.ndarray, "b h w 3"]]:
    """Returns the pictures of every stage.

    Args:
      stages: from the base up.
      texts: one row per picture.
      seeds: one per picture.
      batch_size: pictures per call; a last, smaller part is padded and cropped.
      put: places the rows of a call on the devices.
      report: called after each call.
      edit_fn: changes what a call draws, see `sampling.editing`; plain without.

    Raises:
      UserError: a device has no room for a stage.
    """
    results: list[np.ndarray] = []
    low_res: list[np.ndarray] | None = None  # floats, a call's rows each, padded
    for stage in stages:
        name = stage.sampler.stage.config.name
        with naming_the_stage(name, batch_size):
            params = stage.params() if callable(stage.params) else stage.params
            calls: list[np.ndarray] = []
            parts: list[np.ndarray] = []
            for i, start in enumerate(range(0, len(seeds), batch_size)):
                # Padded by wrapping around.
                rows = np.arange(start, start + batch_size) % len(seeds)
                below = None if low_res is None else put(low_res[i])
                pictures = _call(stage, params, texts, seeds, rows, below, put, edit_fn)
                calls.append(np.asarray(pictures))
                parts.append(np.asarray(to_uint8(pictures))[: len(seeds) - start])
                report(Part(name, start, parts[-1]))
            del params
        low_res = calls
        results.append(np.concatenate(parts))
    return results


def _call(
    stage: CascadeStage,
    params: Params,
    texts: Texts,
    seeds: UInt32[np.ndarray, " n"],
    rows: Int[np.ndarray, " b"],
    low_res: Float[jax.Array, "b hl wl 3"] | None,
    put: Callable[[Any], Any],
    edit_fn: EditFn,
) -> Float[jax.Array, "b h w 3"]:
    """Returns the pictures of some rows, in [-1, 1], on the devices."""
    prompts, negatives, seconds = put(jax.tree.map(lambda leaf: leaf[rows], texts[:3]))
    config = stage.config or stage.sampler.config
    settings = sampling_params(config, seeds[rows], texts.blend)
    settings = settings._replace(seeds=put(settings.seeds), logsnrs=stage.logsnrs)
    settings, edit = edit_fn(stage, settings, rows)
    return stage.sampler(
        params,
        prompts,
        settings,
        low_res,
        uncond_text=negatives,
        second_text=seconds,
        edit=edit,
    )
