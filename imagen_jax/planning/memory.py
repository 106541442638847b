"""Bytes on one chip of a training run, estimated from shapes.

    peak = state + batch + max(backward pass, update)

- state: weights, moments and EMA as `parallel.sharding` splits them. This is exact.
- batch: this chip's pictures (bytes) and text (bfloat16).
- backward pass: what `liveness` finds in the jaxpr of one microbatch of this chip's
  pictures: activations, recomputed ones with `network.remat`, kernels gathered whole
  while they are used, and gradients, which stay split like weights.
- update: gradients and updates side by side, because the step decides whether it was
  finite before it writes any (`training.step`).

With microbatches the sum of gradients and the drawn noise of the whole batch are held
beside. A mesh axis `tensor` splits state, but its share of activations is not modelled:
they count whole. No number here is fitted to what a compiler reported.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.sharding import AbstractMesh, AxisType, Mesh

from imagen_jax.config import StageConfig
from imagen_jax.interfaces import Batch
from imagen_jax.parallel.mesh import AXES, mesh_shape, num_batch_shards
from imagen_jax.parallel.sharding import tree_shardings
from imagen_jax.planning.encoders import abstract_encoder
from imagen_jax.planning.liveness import Program
from imagen_jax.planning.programs import (
    abstract_batch,
    abstract_state,
    sample_arguments,
    shape,
)
from imagen_jax.stage import Params, build_stage
from imagen_jax.training.step import accumulate_gradients, draw_examples


class TrainBytes(NamedTuple):
    """Bytes on one chip of a training run.

    Attributes:
      weights: parameters.
      moments: of the optimizer.
      ema: all averages.
      batch: this chip's part.
      activations: of the backward pass, gradients included.
      update: gradients and updates.
    """

    weights: int
    moments: int
    ema: int
    batch: int
    activations: int
    update: int

    @property
    def state(self) -> int:
        """Weights, moments and averages."""
        return self.weights + self.moments + self.ema

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.state + self.batch + max(self.activations, self.update)


def abstract_mesh(config: StageConfig, num_chips: int) -> AbstractMesh:
    """Returns the mesh of a config on so many chips, without the chips.

    Raises:
      UserError: its axes do not make that many.
    """
    sizes = mesh_shape(config.mesh, num_chips)
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def chip_bytes(tree: Any, mesh: Mesh | AbstractMesh) -> int:
    """Returns what one chip holds of a tree that is split by the rules."""
    return sum(_leaf_bytes(tree, mesh))


def _leaf_bytes(tree: Any, mesh: Mesh | AbstractMesh) -> list[int]:
    leaves = jax.tree.leaves(tree)
    shardings = jax.tree.leaves(tree_shardings(tree, mesh))
    return [
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in zip(leaves, shardings, strict=True)
    ]


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def gradient_jaxpr(config: StageConfig, rows: int) -> tuple[ClosedJaxpr, Params]:
    """Returns the program (params, key, batch) -> loss, error, gradients; the params.

    Args:
      config: of the stage.
      rows: pictures, taken as one batch.
    """
    train = dataclasses.replace(config.train, batch_size=rows, microbatches=1)
    config = dataclasses.replace(config, train=train)
    stage = build_stage(config, platform="tpu")
    params = jax.eval_shape(stage.init_params, jax.random.key(0))

    def gradients(params: Params, key: jax.Array, batch: Batch) -> Any:
        examples = draw_examples(stage, key, batch)
        return accumulate_gradients(stage, params, examples)

    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.make_jaxpr(gradients)(params, key, abstract_batch(config, rows)), params


def chip_rows(config: StageConfig, mesh: Mesh | AbstractMesh) -> tuple[int, int]:
    """Returns pictures of one chip in a step and in one microbatch."""
    rows = config.train.batch_size // num_batch_shards(mesh)
    return rows, max(rows // config.train.microbatches, 1)


def train_bytes(
    config: StageConfig, mesh: Mesh | AbstractMesh, jaxpr: ClosedJaxpr
) -> TrainBytes:
    """Returns the estimate.

    Args:
      config: of the stage.
      mesh: as training has it.
      jaxpr: from `gradient_jaxpr` for the rows of one microbatch of one chip.
    """
    state = abstract_state(config)
    rows, _ = chip_rows(config, mesh)
    batch = abstract_batch(config, rows)
    gradients = _leaf_bytes(state.params, mesh)
    first = len(jaxpr.out_avals) - len(gradients)
    program = Program(
        jaxpr.jaxpr,
        len(gradients),
        dict(enumerate(gradients, start=first)),
        gathers=mesh.shape["fsdp"] > 1,
    )
    activations = program.peak()
    if config.train.microbatches > 1:
        drawn = 2 * 4 * math.prod(batch.image.shape)  # pictures and noise, float32
        activations += sum(gradients) + drawn
    return TrainBytes(
        weights=chip_bytes(state.params, mesh),
        moments=chip_bytes(state.opt_state, mesh),
        ema=chip_bytes(state.ema_params, mesh),
        batch=_bytes(batch),
        activations=activations,
        update=2 * sum(gradients),
    )


class ForwardBytes(NamedTuple):
    """Bytes on a chip that samples or encodes.

    Attributes:
      weights: parameters, this chip's part.
      inputs: text and low-res pictures, or tokens.
      activations: of the network, and of the sampler.
    """

    weights: int
    inputs: int
    activations: int

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.weights + self.inputs + self.activations


def sample_bytes(config: StageConfig, rows: int) -> ForwardBytes:
    """Returns the estimate for sampling `rows` pictures at once."""
    function, arguments = sample_arguments(config, rows)
    jaxpr = jax.make_jaxpr(function)(*arguments)
    num_inputs = len(jaxpr.in_avals)
    params, *inputs = arguments
    return ForwardBytes(
        _bytes(params),
        _bytes(inputs),
        Program(jaxpr.jaxpr, num_inputs, {}).peak(),
    )


def encoder_bytes(
    name: str, mesh: Mesh | AbstractMesh, rows: int, length: int
) -> ForwardBytes:
    """Returns the estimate for encoding `rows` captions of `length` tokens at once.

    Args:
      name: of the encoder.
      mesh: the devices that weights and captions are split over.
      rows: captions, over all devices.
      length: tokens of each.
    """
    encode, params = abstract_encoder(name)
    dims = (rows // num_batch_shards(mesh), length)
    ids, mask = shape(dims, jnp.int32), shape(dims, jnp.bool_)
    jaxpr = jax.make_jaxpr(encode)(params, ids, mask)
    return ForwardBytes(
        chip_bytes(params, mesh),
        _bytes((ids, mask)),
        Program(jaxpr.jaxpr, len(jaxpr.in_avals), {}).peak(),
    )
