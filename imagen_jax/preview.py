"""Preview grids while a stage trains: held-out prompts, sampled with the EMA weights.

A base stage draws the captions of the preview source; a super-resolution stage enlarges
that source's true low-res pictures, so a preview shows this stage alone. Seeds are
fixed: the same prompt under the same noise, step after step. Captions of an OpenMoji
set can be scored as well (`config.preview.openmoji_set`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from imagen_jax.data.probe import read_probe
from imagen_jax.data.records import Source
from imagen_jax.data.sources import openmoji
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.errors import UserError
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.prompt_score import score_pictures
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.parallel.sharding import replicated
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import Params, Stage

COLUMNS = 8

EmbedFn = Callable[[Sequence[str]], TextEmbeddings]


def make_preview(
    stage: Stage, embed: EmbedFn, source: Source, workdir: Path, mesh: Mesh
) -> Callable[[int, Params], dict[str, float]]:
    """Returns (step, parameters) -> metrics, which writes `workdir/previews/*.png`.

    Args:
      stage: the stage that is trained.
      embed: captions to embeddings, numpy.
      source: what to show; `config.preview.count` records, evenly spaced.
      workdir: of the run; process 0 writes there.
      mesh: that the stage is trained on; all its processes must call what is returned.

    Raises:
      UserError: a caption has no embedding or is not in `config.preview.openmoji_set`.
    """
    config = stage.config
    probe = read_probe(
        source, config.preview.count, config.resolution, config.low_res_resolution
    )
    prompts = probe.captions
    text = put_whole(embed(prompts), mesh)
    low_res = None
    if probe.low_res is not None:
        low_res = put_whole(to_unit(jnp.asarray(probe.low_res)), mesh)
    steps = config.preview.num_steps or config.sampler.num_steps
    settings = dataclasses.replace(config.sampler, num_steps=steps)
    sampler = Sampler(stage, settings)
    values = put_whole(sampling_params(settings, np.arange(len(prompts))), mesh)
    gather_bytes = jax.jit(to_uint8, out_shardings=replicated(mesh))
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
        pictures = np.asarray(gather_bytes(sampler(params, text, values, low_res)))
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


def put_whole(tree: Any, mesh: Mesh) -> Any:
    """Returns arrays that are equal on all hosts as global ones, whole on each device.

    The network splits its activations over the mesh by itself.
    """
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(
            replicated(mesh), np.asarray(leaf)
        ),
        tree,
    )
