"""The programs that are compiled for a slice: the very ones that run on it.

- `train_program`: what `training.loop` jits, with its shardings and donation.
- `sample_program`: what `sampling.sampler` jits for one device; the parameters are
  float32, as a workdir holds them.
- `encoder_program`: what fills an embedding store, parameters in bfloat16, split over
  the chips as `parallel.sharding` says.

Arguments are shapes; nothing is allocated.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding
from jax.stages import Lowered

from imagen_jax.config import StageConfig
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.parallel.sharding import (
    batch_sharding,
    constrain_batch,
    tree_shardings,
)
from imagen_jax.planning.encoders import abstract_encoder
from imagen_jax.sampling.sampler import Sampler, sample_stage, sampling_params
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import jit_train_step, state_shardings
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import TrainState, init_state


def shape(dims: tuple[int, ...], dtype: Any) -> Any:
    """Returns an array's shape and type, in the place of the array."""
    return jax.ShapeDtypeStruct(dims, dtype)


def abstract_text(config: StageConfig, rows: int) -> TextEmbeddings:
    """Returns the shapes of `rows` captions as a batch holds them."""
    dims = (rows, config.text.max_length)
    return TextEmbeddings(
        shape((*dims, config.text.width), jnp.bfloat16), shape(dims, jnp.bool_)
    )


def abstract_batch(config: StageConfig, rows: int) -> Batch:
    """Returns the shapes of `rows` pictures and captions, as training takes them."""
    side = config.data.crop_size or config.resolution
    low_res = None
    if config.data.crop_size:
        low = side * config.low_res_resolution // config.resolution
        low_res = shape((rows, low, low, 3), jnp.uint8)
    image = shape((rows, side, side, 3), jnp.uint8)
    return Batch(image, abstract_text(config, rows), low_res)


def abstract_state(config: StageConfig) -> TrainState:
    """Returns the shapes of a run's state."""
    stage = build_stage(config, platform="tpu")
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    init = functools.partial(init_state, stage, optimizer)
    return jax.eval_shape(init, jax.random.key(0))


def train_program(config: StageConfig, mesh: Mesh) -> Lowered:
    """Returns the train step for the devices of a mesh, ready to be compiled."""
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    # Shapes do not depend on the constraint, which needs the mesh set; under a mesh of
    # devices that are not there, no array can be made.
    shardings = state_shardings(build_stage(config, platform="tpu"), optimizer, mesh)
    stage = build_stage(config, platform="tpu", constrain=constrain_batch)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, batch = (
        abstract_state(config),
        abstract_batch(config, config.train.batch_size),
    )
    with jax.set_mesh(mesh):
        step_fn = jit_train_step(stage, optimizer, shardings, mesh)
        return step_fn.lower(key, state, batch)


def sample_arguments(config: StageConfig, rows: int) -> tuple[Any, tuple[Any, ...]]:
    """Returns the sampling function of a stage and the shapes of its arguments."""
    stage = build_stage(config, platform="tpu")
    sampler = Sampler(stage)
    settings = sampling_params(sampler.config, np.zeros(rows, np.uint32))
    settings = settings._replace(logsnrs=jnp.asarray(sampler.logsnrs))
    guided = bool(np.any(np.asarray(settings.guidance_weight) != 1.0))
    side = config.low_res_resolution
    low_res = shape((rows, side, side, 3), jnp.float32) if side else None
    text = abstract_text(config, rows)
    params = jax.eval_shape(stage.init_params, jax.random.key(0))
    settings = jax.eval_shape(lambda: settings)
    function = functools.partial(sample_stage, stage, sampler.config, guided)
    return function, (params, text, text, None, low_res, settings)


def sample_program(config: StageConfig, device: Any, rows: int) -> Lowered:
    """Returns the sampler of a stage for one device, ready to be compiled."""
    function, arguments = sample_arguments(config, rows)
    here = SingleDeviceSharding(device)
    return jax.jit(function, in_shardings=here, out_shardings=here).lower(*arguments)


def encoder_program(name: str, mesh: Mesh, rows: int, length: int) -> Lowered:
    """Returns a text encoder for the devices of a mesh, ready to be compiled.

    Args:
      name: of the encoder, see `encoders`.
      mesh: the devices.
      rows: captions at once.
      length: tokens of each.
    """
    encode, params = abstract_encoder(name)
    ids, mask = shape((rows, length), jnp.int32), shape((rows, length), jnp.bool_)
    split = batch_sharding(mesh)
    jitted = jax.jit(
        encode,
        in_shardings=(tree_shardings(params, mesh), split, split),
        out_shardings=split,
    )
    with jax.set_mesh(mesh):
        return jitted.lower(params, ids, mask)
