"""What a run needs, estimated from shapes: memory, work, communication, time, storage.

- Work: model FLOPs are those of one forward and one backward pass (`training.flops`);
  the step's FLOPs on a chip are all products in its jaxpr, recomputed ones included.
- Communication of a step: each kernel that `fsdp` splits is gathered twice in the
  compute type (for the forward and for the backward pass) and its gradient is summed
  over all chips once, in that type too; what is not split is summed in float32. Bytes
  are those that one chip sends in rings, as in `collectives`.
- Time: steps x model FLOPs / (MFU x peak of all chips). The MFU is yours to state.
- Embedding store: tokens x bytes of a token, 8 bytes of a record's head and 20 of its
  place in the index (`data.store_format`); the captions' own text is not counted.
"""

from typing import NamedTuple

import jax
from jax.sharding import AbstractMesh, Mesh

from imagen_jax.config import StageConfig
from imagen_jax.parallel.mesh import check_batch_size, num_batch_shards
from imagen_jax.parallel.sharding import leaf_name, partition_spec
from imagen_jax.planning.memory import (
    TrainBytes,
    chip_rows,
    gradient_jaxpr,
    train_bytes,
)
from imagen_jax.planning.topology import Slice
from imagen_jax.stage import Params
from imagen_jax.training.flops import count_flops, training_flops
from imagen_jax.training.hardware import peak_flops

_SECONDS_PER_DAY = 86_400
_RECORD_BYTES = 8 + 20


class Estimate(NamedTuple):
    """What training needs; bytes and FLOPs on one chip unless said otherwise.

    Attributes:
      num_params: of the network.
      memory: bytes, by what they hold.
      rows: pictures in a step on one chip.
      flops_per_picture: model FLOPs of one picture.
      step_flops: executed in a step, recomputation included.
      sent_bytes: sent in a step to other chips.
    """

    num_params: int
    memory: TrainBytes
    rows: int
    flops_per_picture: int
    step_flops: int
    sent_bytes: int


def estimate_training(config: StageConfig, mesh: Mesh | AbstractMesh) -> Estimate:
    """Returns the estimate.

    Args:
      config: of the stage.
      mesh: its devices, which need not exist.

    Raises:
      UserError: the batch cannot be split over the mesh.
    """
    check_batch_size(config.train.batch_size, mesh)
    rows, part = chip_rows(config, mesh)
    jaxpr, params = gradient_jaxpr(config, part)
    return Estimate(
        sum(leaf.size for leaf in jax.tree.leaves(params)),
        train_bytes(config, mesh, jaxpr),
        rows,
        training_flops(config),
        count_flops(jaxpr) * config.train.microbatches,
        step_sent_bytes(config, params, mesh),
    )


def step_sent_bytes(
    config: StageConfig, params: Params, mesh: Mesh | AbstractMesh
) -> int:
    """Returns the bytes that a chip sends in a step, by the model of this module."""
    fsdp, group = mesh.shape["fsdp"], num_batch_shards(mesh)
    width = 2 if config.network.dtype == "bfloat16" else 4
    total = 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = leaf_name(path)
        spec = partition_spec(name, leaf.shape, mesh)
        size = leaf.size // (mesh.shape["tensor"] if "tensor" in spec else 1)
        if "fsdp" in spec:
            share = 2 * (fsdp - 1) / fsdp + 2 * (group - 1) / group
            total += config.train.microbatches * share * width * size
        else:
            total += 2 * (group - 1) / group * 4 * size
    return round(total)


class Schedule(NamedTuple):
    """How long a run takes, and what it costs.

    Attributes:
      steps: of the run.
      mfu: share of the chips' peak that the model FLOPs make.
      days: of the run.
      chip_hours: of all chips.
    """

    steps: int
    mfu: float
    days: float
    chip_hours: float


def schedule(
    config: StageConfig, chips: Slice, flops_per_picture: int, steps: int, mfu: float
) -> Schedule:
    """Returns the length of a run at a stated MFU."""
    peak = peak_flops(chips.generation.device_kind, config.network.dtype)
    assert peak is not None
    work = steps * config.train.batch_size * flops_per_picture
    days = work / (mfu * peak * chips.num_chips) / _SECONDS_PER_DAY
    return Schedule(steps, mfu, days, 24 * days * chips.num_chips)


def store_bytes(captions: int, tokens: int, width: int, dtype: str) -> int:
    """Returns the size of an embedding store.

    Args:
      captions: distinct ones.
      tokens: valid ones of a caption, on average.
      width: of the embeddings.
      dtype: "bfloat16" or "int8".
    """
    token_bytes = 2 * width if dtype == "bfloat16" else 4 + width
    return captions * (tokens * token_bytes + _RECORD_BYTES)
