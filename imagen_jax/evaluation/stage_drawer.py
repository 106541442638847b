"""One stage of a cascade by itself: fed with any low-res pictures, or replaced."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from imagen_jax.bundle import load_stage
from imagen_jax.config import StageConfig
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.errors import UserError
from imagen_jax.evaluation.diagnosis import LowRes, Pictures
from imagen_jax.parallel.sharding import (
    batch_sharding,
    constrain_batch,
    tree_shardings,
)
from imagen_jax.pipeline import LoadedStage, Pipeline
from imagen_jax.sampling.plan import Plan
from imagen_jax.sampling.sampler import sampling_params
from imagen_jax.stage import Params
from imagen_jax.workdir import local_copy


def with_swapped(model: Pipeline, folder: str) -> tuple[Pipeline, int]:
    """Returns the cascade with another run's stage, and that stage's place.

    Raises:
      UserError: no stage of the cascade has its resolutions.
    """
    with jax.set_mesh(model.mesh):
        stage, params = load_stage(
            local_copy(folder),
            constrain=constrain_batch,
            shardings_fn=lambda abstract: tree_shardings(abstract, model.mesh),
        )
    sizes = [_sizes(loaded.stage.config) for loaded in model.stages]
    if _sizes(stage.config) not in sizes:
        raise UserError(
            f"--swap={folder} makes {stage.config.resolution} pixels from "
            f"{stage.config.low_res_resolution}, which no stage does; give another run "
            f"of one of {', '.join(model.names)}"
        )
    place = sizes.index(_sizes(stage.config))
    stages = list(model.stages)
    stages[place] = LoadedStage(stage, lambda: params, {"folder": str(folder)})
    return Pipeline(stages, model.text, model.mesh, model.say), place


def _sizes(config: StageConfig) -> tuple[int, int]:
    return config.resolution, config.low_res_resolution


def stage_drawer(
    model: Pipeline, plan: Plan, index: int
) -> Callable[[LowRes | None], Pictures]:
    """Returns low-res pictures (None for the base) -> those of one stage, alone.

    The low-res pictures are bytes, true and generated ones alike; within a cascade they
    are passed on unrounded.

    Args:
      model: the cascade.
      plan: what is drawn.
      index: of the stage.
    """

    def put(rows: Any) -> Any:
        return jax.device_put(rows, batch_sharding(model.mesh))

    def draw(low_res: LowRes | None) -> Pictures:
        stage, text = model.cascade(plan.samplers)[index], model.text(plan.prompts)
        config, seeds = stage.config or stage.sampler.config, np.array(plan.seeds)
        size = plan.batch_size

        def call(params: Params, rows: Int[np.ndarray, " b"]) -> Pictures:
            below = (
                None if low_res is None else put(to_unit(jnp.asarray(low_res[rows])))
            )
            settings = sampling_params(config, seeds[rows].astype(np.uint32))
            settings = settings._replace(
                seeds=put(settings.seeds), logsnrs=stage.logsnrs
            )
            prompts = put(jax.tree.map(lambda leaf: leaf[rows], text))
            return np.asarray(to_uint8(stage.sampler(params, prompts, settings, below)))

        with jax.set_mesh(model.mesh):
            params = stage.params() if callable(stage.params) else stage.params
            starts = range(0, len(seeds), size)  # the last part wraps around
            parts = [
                call(params, np.arange(start, start + size) % len(seeds))
                for start in starts
            ]
        return np.concatenate(parts)[: len(seeds)]

    return draw
