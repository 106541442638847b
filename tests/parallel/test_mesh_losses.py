"""The losses of a run do not depend on how it is spread over devices."""

import functools
import itertools
from unittest import mock

import jax
import numpy as np
import pytest

from imagen_jax.config import MeshConfig
from imagen_jax.parallel import sharding
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import jit_train_step, state_shardings
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from tests.tiny import ONE_LEVEL, tiny_batch, tiny_config

NUM_STEPS = 20
SHAPES = [
    shape for shape in itertools.product((1, 2, 4, 8), repeat=3) if np.prod(shape) == 8
]


def losses(kind, mesh, **network):
    """Returns the first losses of a tiny stage on a mesh."""
    config = tiny_config(
        kind,
        network=network,
        train={"batch_size": 8, "num_steps": NUM_STEPS},
        optimizer={"learning_rate": 1e-3, "warmup_steps": 0},
    )
    stage = build_stage(config, constrain=sharding.constrain_batch)
    optimizer = make_optimizer(config.optimizer, NUM_STEPS)
    # Tiny parameters are split too.
    with jax.set_mesh(mesh), mock.patch.object(sharding, "MIN_FSDP_SIZE", 64):
        shardings = state_shardings(stage, optimizer, mesh)
        init = functools.partial(init_state, stage, optimizer)
        state = jax.jit(init, out_shardings=shardings)(jax.random.key(1))
        batches = [
            sharding.to_global(tiny_batch(stage, seed=k), mesh)
            for k in range(NUM_STEPS)
        ]
        lowered = jit_train_step(stage, optimizer, shardings, mesh).lower(
            jax.random.key(0), state, batches[0]
        )
        # Most of the time goes into compiling; LLVM's share of it can be left out.
        step_fn = lowered.compile({"xla_backend_optimization_level": 0})
        found = []
        for batch in batches:
            state, metrics = step_fn(jax.random.key(0), state, batch)
            found.append(float(metrics["loss"]))
    return np.array(found)


@functools.cache
def losses_of_one_device():
    return losses("base", make_mesh(devices=jax.devices()[:1]), **ONE_LEVEL["base"])


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_mesh_shape_gives_the_losses_of_one_device(shape):
    expected = losses_of_one_device()
    np.testing.assert_allclose(
        losses("base", make_mesh(MeshConfig(*shape)), **ONE_LEVEL["base"]),
        expected,
        rtol=1e-4,
    )
    assert expected[-1] < 0.9 * expected[0]  # it learns: the updates are compared too


@functools.cache
def whole_networks_on_one_device(kind):
    return losses(kind, make_mesh(devices=jax.devices()[:1]))


# Kernels are gathered at their use where fsdp splits them and tensor does not.
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("base", (2, 2, 2)),
        ("sr", (2, 2, 2)),
        ("sr", (2, 4, 1)),
        pytest.param("base", (2, 4, 1), marks=pytest.mark.slow),
        pytest.param("base", (8, 1, 1), marks=pytest.mark.slow),
        pytest.param("sr", (4, 1, 2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_networks_of_several_levels_too(kind, shape):
    np.testing.assert_allclose(
        losses(kind, make_mesh(MeshConfig(*shape))),
        whole_networks_on_one_device(kind),
        rtol=1e-4,
    )
