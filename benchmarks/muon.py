"""Times one update of Muon: optax's and ours, on a model's kernels.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 JAX_PLATFORMS=cpu \
        python benchmarks/muon.py [--config=configs/shapes.py]

Gradients lie whole on every device, as a train step of data-parallel devices has them.
One line of JSON each, twice, in turn: the median of 20 updates in seconds, and the
floating-point operations on one device that XLA counts. The last line is the largest
difference of an update, relative to the largest update of its kernel.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from imagen_jax.config_file import load_config
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import replicated
from imagen_jax.stage import Params, build_stage
from imagen_jax.training.muon import UPDATE_RMS, scale_by_muon

UPDATES = 20
OVERRIDES = ["data.source=synthetic:8", "data.store=STORE"]  # neither is opened


def main() -> None:
    """Prints the times of both."""
    parser = argparse.ArgumentParser(description="Time an update of Muon.")
    parser.add_argument("--config", default="configs/shapes.py")
    flags = parser.parse_args()
    keep_freed_memory()
    config = load_config(flags.config, OVERRIDES)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        grads = jax.device_put(random_kernels(config), replicated(mesh))
        rules = {"optax": optax_muon(), "imagen_jax": scale_by_muon()}
        updates = {}
        for name in (*rules, *rules):
            updates[name] = measure(name, rules[name], grads)
    difference = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max()), *updates.values()
    )
    print(json.dumps({"difference": max(jax.tree.leaves(difference))}))


def random_kernels(config) -> Params:
    """Returns normal numbers in the shape of the config's kernels."""
    rng = np.random.default_rng(0)
    params = jax.eval_shape(build_stage(config).init_params, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: (
            rng.standard_normal(leaf.shape, np.float32)
            if keys[-1].key == "kernel"
            else None
        ),
        params,
    )


def optax_muon() -> optax.GradientTransformation:
    """Returns optax's rule without the learning rate, its sign and the weight decay."""

    def dimensions(kernels):
        def of_leaf(keys, leaf):
            first = int(any(key.key == "layers" for key in keys))
            inputs = tuple(range(first, leaf.ndim - 1))
            return optax.contrib.MuonDimensionNumbers(inputs, (leaf.ndim - 1,))

        return jax.tree_util.tree_map_with_path(of_leaf, kernels)

    return optax.contrib.muon(
        -1.0, muon_weight_dimension_numbers=dimensions, consistent_rms=UPDATE_RMS
    )


def measure(name: str, rule: optax.GradientTransformation, grads: Params) -> Params:
    """Prints what an update costs; returns the first."""
    state = jax.jit(rule.init)(grads)
    update = jax.jit(rule.update).lower(grads, state, grads).compile()
    costs = []
    for _ in range(1 + UPDATES):
        started = time.monotonic()
        updates, _ = jax.block_until_ready(update(grads, state, grads))
        costs.append(time.monotonic() - started)
    flops = update.cost_analysis()["flops"]
    line = {"muon": name, "seconds": round(float(np.median(costs[1:])), 4)}
    print(json.dumps(line | {"flops_per_device": int(flops)}), flush=True)
    return updates


if __name__ == "__main__":
    main()
