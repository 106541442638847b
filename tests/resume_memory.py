"""Trains a stage whose state is some hundred MB; prints the most memory it has held.

    python -m tests.resume_memory WORKDIR [--save]

It takes three steps, from the newest checkpoint if there is one, prints "STATE PEAK"
(bytes) and ends without saving. With --save it takes one step and saves instead.
"""

import os
import sys

import jax

from imagen_jax.config import MeshConfig
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import train
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from imagen_jax.workdir import open_workdir
from tests.tiny import tiny_batch, tiny_config

NUM_STEPS = 3


def peak_bytes() -> int:
    """Returns the kernel's peak of this process's resident memory."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Trains."""
    workdir, save = sys.argv[1], "--save" in sys.argv
    config = tiny_config(
        network={
            "channels": 512,
            "channel_mults": [1],
            "num_res_blocks": [1],
            "attention": [False],
        },
        train={
            "batch_size": 2,
            "ema_decays": [0.99],
            "num_steps": 1 if save else 100,
            "checkpoint_every": 100,
        },
    )
    optimizer = make_optimizer(config.optimizer, 100)
    state = jax.eval_shape(
        lambda key: init_state(build_stage(config), optimizer, key), jax.random.key(0)
    )
    state_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))

    def batches(start, stop):
        for k in range(start, stop):
            if k == start + NUM_STEPS:  # asked for when those before are computed
                print(state_bytes, peak_bytes(), flush=True)
                os._exit(0)
            yield tiny_batch(stage, seed=k)

    stage = build_stage(config, constrain=constrain_batch)
    train(stage, make_mesh(MeshConfig(1, -1)), batches, open_workdir(workdir))


if __name__ == "__main__":
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    main()
