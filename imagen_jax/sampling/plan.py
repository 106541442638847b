"""What a call draws, settled: a prompt, a seed and settings for every picture."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.sampler_config import SamplerConfig

MAX_SEED = 2**32 - 1


class Plan(NamedTuple):
    """What is drawn; one entry per picture where there are several.

    Attributes:
      prompts: "" is the null text.
      negatives: what guidance leads away from; "" is the null text.
      seconds: prompts to blend with the first, "" for none.
      blend: share of the second prompts, in [0, 1].
      seeds: of the noise.
      samplers: settings of each stage.
      batch_size: pictures in a call of a stage; fewer are padded.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]
    seconds: tuple[str, ...]
    blend: float
    seeds: tuple[int, ...]
    samplers: tuple[SamplerConfig, ...]
    batch_size: int


def match_prompts(
    prompts: str | Sequence[str], seeds: int | Sequence[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns a prompt and a seed for every picture.

    Args:
      prompts: one, or one per picture.
      seeds: one per picture, or the first one, s: picture i takes s + i.

    Raises:
      UserError: no prompt, lists of different lengths, or a seed outside [0, 2^32).
    """
    if isinstance(prompts, str):
        count = 1 if isinstance(seeds, int | np.integer) else len(seeds)
        prompts = [prompts] * count
    if not prompts:
        raise UserError("there is no picture to draw; give a prompt and a seed for it")
    if isinstance(seeds, int | np.integer):
        seeds = range(int(seeds), int(seeds) + len(prompts))
    if len(seeds) != len(prompts):
        raise UserError(
            f"there are {len(prompts)} prompts and {len(seeds)} seeds; give one seed "
            "per prompt, or the first one alone"
        )
    if not (0 <= min(seeds) and max(seeds) <= MAX_SEED):
        raise UserError(
            f"the seeds run from {min(seeds)} to {max(seeds)}; they must be in [0, "
            "2^32)"
        )
    return tuple(prompts), tuple(int(seed) for seed in seeds)


def one_per_picture(
    name: str, texts: str | Sequence[str], count: int
) -> tuple[str, ...]:
    """Returns a text for every picture.

    Args:
      name: of the argument, for the message.
      texts: one, or one per picture.
      count: number of pictures.

    Raises:
      UserError: lists of different lengths.
    """
    if isinstance(texts, str):
        return (texts,) * count
    if len(texts) != count:
        raise UserError(
            f"there are {count} pictures and {len(texts)} {name} prompts; give one for "
            "all, or one per picture"
        )
    return tuple(texts)


def check_limits(blend: float, batch_size: int | None) -> None:
    """Refuses a share outside [0, 1] and a batch without a picture.

    Raises:
      UserError: see above.
    """
    if not 0 <= blend <= 1:
        raise UserError(f"blend is {blend}; it must be in [0, 1]")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1")
