"""Preview grids while a stage trains: held-out prompts, sampled with the EMA weights.

A base stage draws the captions of the preview source; a super-resolution stage enlarges
that source's true low-res pictures, so a preview shows this stage alone. Seeds are
fixed: the same prompt under the same noise, step after step. Captions of an OpenMoji
set can be scored as well (`config.preview.openmoji_set`).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.images import box_downsample, decode, resize_and_crop
from imagen_jax.data.records import Source
from imagen_jax.data.sources import openmoji
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.errors import UserError
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.prompt_score import score_pictures
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import Params, Stage

COLUMNS = 8


def make_preview(
    stage: Stage, store: EmbeddingStore, source: Source, workdir: Path
) -> Callable[[int, Params], dict[str, float]]:
    """Returns (step, parameters) -> metrics, which writes `workdir/previews/*.png`.

    Args:
      stage: the stage that is trained.
      store: embeddings of the source's captions.
      source: what to show; `config.preview.count` records, evenly spaced.
      workdir: of the run.

    Raises:
      UserError: a caption is not in the store, or not in `config.preview.openmoji_set`.
    """
    config = stage.config
    rows = np.linspace(0, len(source) - 1, config.preview.count).astype(int)
    records = [source[int(row)] for row in rows]
    prompts = [record.caption for record in records]
    text = TextEmbeddings(*map(jnp.asarray, store.lookup(prompts)))
    low_res = None
    if config.is_super_resolution:
        factor = config.resolution // config.low_res_resolution
        pictures = [
            resize_and_crop(decode(record.image), config.resolution)
            for record in records
        ]
        small = [box_downsample(picture, factor) for picture in pictures]
        low_res = to_unit(jnp.asarray(np.stack(small)))
    steps = config.preview.num_steps or config.sampler.num_steps
    settings = dataclasses.replace(config.sampler, num_steps=steps)
    sampler = Sampler(stage, settings)
    seeds = np.arange(len(prompts))
    if config.preview.openmoji_set:
        scorer = EmojiScorer(config.preview.openmoji_set)
        listed = openmoji.pairs(config.preview.openmoji_set)
        pair_of = {pair.caption: pair for pair in listed}
        if strange := [prompt for prompt in prompts if prompt not in pair_of]:
            raise UserError(
                f"preview.openmoji_set is {config.preview.openmoji_set!r}, which has "
                f"no {strange[0]!r}; score only previews of that set"
            )
        pairs = [pair_of[prompt] for prompt in prompts]

    def preview(step: int, params: Params) -> dict[str, float]:
        pictures = sampler(params, text, sampling_params(settings, seeds), low_res)
        pictures = np.asarray(jax.device_get(to_uint8(pictures)))
        if jax.process_index() == 0:
            path = workdir / "previews" / f"step_{step:08d}.png"
            title = f"{config.name}, step {step}"
            write_grid(path, list(pictures), prompts, COLUMNS, title=title)
        if not config.preview.openmoji_set:
            return {}
        score = score_pictures(scorer, pictures, pairs)
        return {
            "preview/ground_accuracy": float(score.ground_right.mean()),
            "preview/object_accuracy": float(score.object_right.mean()),
        }

    return preview
