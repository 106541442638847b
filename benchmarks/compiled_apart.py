"""Times a train step in the process that compiled it and in one that found it on disk.

    python benchmarks/compiled_apart.py [--config=configs/shapes.py] [--rounds=2]

A round starts two processes, one after the other, with a compile cache that is empty
for the first. One line of JSON for each: seconds and CPU-seconds a step, the median of
20, and the voluntary context switches a step. On two cores the first kind of process
was a third slower; hence `train --compile_only`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from train_step import set_up

from imagen_jax.config_file import load_config
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.parallel.mesh import make_mesh

STEPS = 20
OVERRIDES = ["data.source=synthetic:8", "data.store=STORE"]  # neither is opened


def main() -> None:
    """Starts the processes, or is one."""
    parser = argparse.ArgumentParser(description="Time a step in two processes.")
    parser.add_argument("--config", default="configs/shapes.py")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.process:
        print(json.dumps({"step": flags.process, **measure(flags.config)}), flush=True)
        return
    devices = "--xla_force_host_platform_device_count=2"
    for _ in range(flags.rounds):
        with tempfile.TemporaryDirectory() as cache:
            new = {"JAX_COMPILATION_CACHE_DIR": cache, "XLA_FLAGS": devices}
            for kind in ("compiled here", "read from disk"):
                subprocess.run(
                    [sys.executable, *sys.argv, f"--process={kind}"],
                    env=os.environ | {"JAX_PLATFORMS": "cpu"} | new,
                    check=True,
                )


def measure(config_file: str) -> dict[str, float]:
    """Returns what a step costs in this process."""
    keep_freed_memory()
    config = load_config(config_file, OVERRIDES)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        step_fn, root_key, state, batch = set_up(config, mesh)
        costs = []
        for _ in range(1 + STEPS):
            before = _spent()
            state, _ = jax.block_until_ready(step_fn(root_key, state, batch))
            costs.append(_spent() - before)
    names = ("seconds", "cpu_seconds", "context_switches")
    middle = np.median(costs[1:], axis=0)
    return {name: round(float(x), 4) for name, x in zip(names, middle, strict=True)}


def _spent() -> np.ndarray:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.monotonic(), time.process_time(), usage.ru_nvcsw])


if __name__ == "__main__":
    main()
