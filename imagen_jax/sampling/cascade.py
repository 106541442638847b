"""The cascade: each stage conditioned on the text and on the stage before it.

Paper, section 2.4: text -> 64 pixels -> 256 -> 1024. A stage's pictures go to the next
as floats in [-1, 1]; bytes are made only at the edge.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.diffusion.augmentation import to_uint8
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import Params, Stage


class CascadeStage(NamedTuple):
    """A stage's compiled sampler and the parameters it runs with."""

    sampler: Sampler
    params: Params


def check_cascade(stages: Sequence[Stage]) -> None:
    """Raises a UserError where a stage does not take what the one before it makes."""
    if stages[0].config.is_super_resolution:
        raise UserError(
            f"the first stage, {stages[0].config.name}, needs a low-res picture; give "
            "the workdirs from the base up, e.g. --workdirs=BASE,SR256"
        )
    for before, after in itertools.pairwise(stages):
        if after.low_res_resolution != before.config.resolution:
            raise UserError(
                f"stage {after.config.name} takes {after.low_res_resolution}-pixel "
                f"pictures, and {before.config.name} makes {before.config.resolution}; "
                "give the workdirs from the base up, e.g. --workdirs=BASE,SR256"
            )
        differing = [
            f"text.{name} {old!r} and {new!r}"
            for name, new in after.config.text.identity.items()
            if (old := before.config.text.identity[name]) != new
            and "" not in (old, new)  # not recorded
        ]
        if differing:
            raise UserError(
                f"stages {before.config.name} and {after.config.name} were trained "
                f"with different embeddings, {', '.join(differing)}; give stages that "
                "were trained with the same"
            )


def sample_cascade(
    stages: Sequence[CascadeStage],
    text: TextEmbeddings,
    seeds: np.ndarray,
    *,
    batch_size: int,
    settings: Sequence[SamplerConfig] | None = None,
    report: Callable[[str, int], None] = lambda stage, num: None,
) -> list[np.ndarray]:
    """Returns the pictures of every stage, uint8 `[b h w 3]` each.

    Args:
      stages: from the base up.
      text: one embedded prompt per picture, numpy.
      seeds: one per picture.
      batch_size: pictures per call; a last, smaller part is padded and cropped.
      settings: traced values per stage; None = each sampler's own.
      report: called with (stage name, pictures made) after each call.
    """
    settings = settings or [stage.sampler.config for stage in stages]
    results: list[np.ndarray] = []
    floats: np.ndarray | None = None
    for (sampler, params), values in zip(stages, settings, strict=True):
        parts = []
        for start in range(0, len(seeds), batch_size):
            rows = np.arange(start, start + batch_size) % len(seeds)  # pads by wrapping
            part = sampler(
                params,
                jax.tree.map(lambda x, rows=rows: x[rows], text),
                sampling_params(values, seeds[rows]),
                None if floats is None else jnp.asarray(floats[rows]),
            )
            parts.append(np.asarray(part))
            report(sampler.stage.config.name, min(batch_size, len(seeds) - start))
        floats = np.concatenate(parts)[: len(seeds)]
        results.append(np.asarray(to_uint8(jnp.asarray(floats))))
    return results
