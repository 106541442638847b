r"""Times one training step: the jitted step of the training loop, as `train` runs it.

    python benchmarks/train_step.py --model=base64 --dtype=bf16 --threads=1

Bytes to floats, every random draw, the forward and backward pass, Adam, one average of
the parameters and the metrics, on a donated state; the batch is in place beforehand, as
the peers' is. Prints one JSON line (`worker`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.sharding import Mesh
from race_configs import race_config
from worker import parse_flags, run

from imagen_jax.config import StageConfig
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch, to_global
from imagen_jax.stage import build_stage
from imagen_jax.training.flops import count_flops
from imagen_jax.training.loop import jit_train_step, state_shardings
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state


def main() -> None:
    """Parses the flags and runs the steps."""
    flags = parse_flags("Time one training step.")
    config = race_config(flags.model, flags.dtype, flags.batch)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        step_fn, root_key, state, batch = set_up(config, mesh)
        about = {
            "task": "train",
            "batch": config.train.batch_size,
            "params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "flops_per_step": count_flops(step_fn.trace(root_key, state, batch).jaxpr),
            "flops_counted": "jaxpr: matrix products and convolutions, 2 per MAC",
            "config": dataclasses.asdict(config.network),
        }

        def step() -> None:
            nonlocal state
            state, metrics = step_fn(root_key, state, batch)
            jax.block_until_ready((state, metrics))

        run(flags, step, about)


def set_up(config: StageConfig, mesh: Mesh) -> tuple[Callable, jax.Array, Any, Batch]:
    """Returns the jitted step and what it is called with: key, fresh state, batch."""
    stage = build_stage(config, constrain=constrain_batch)
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    shardings = state_shardings(stage, optimizer, mesh)
    init = functools.partial(init_state, stage, optimizer)
    state = jax.jit(init, out_shardings=shardings)(jax.random.key(0))
    step_fn = jit_train_step(stage, optimizer, shardings, mesh)
    return step_fn, jax.random.key(1), state, to_global(random_batch(config), mesh)


def random_batch(config: StageConfig) -> Batch:
    """Returns random bytes as pictures and random embeddings of full length as text."""
    rng = np.random.default_rng(1)
    b, size, text = config.train.batch_size, config.resolution, config.text
    embed = rng.standard_normal((b, text.max_length, text.width), np.float32)
    return Batch(
        image=rng.integers(0, 256, (b, size, size, 3), np.uint8),
        text=TextEmbeddings(
            embed.astype(ml_dtypes.bfloat16), np.ones((b, text.max_length), bool)
        ),
    )


if __name__ == "__main__":
    main()
