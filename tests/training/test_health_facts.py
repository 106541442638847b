"""What is measured is what is there: of batches, errors and weights, on any mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.config import MeshConfig
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import to_global
from imagen_jax.training.health.batch import batch_facts
from imagen_jax.training.health.errors import error_facts
from imagen_jax.training.health.monitor import HealthMonitor
from imagen_jax.training.health.target import target_facts
from imagen_jax.training.health.weights import MovementMeter
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import TrainState, init_state
from tests.tiny import ONE_LEVEL, tiny_batch, tiny_stage

STEP = jnp.zeros((), jnp.int32)
NETWORKS = {**ONE_LEVEL, "base": {**ONE_LEVEL["base"], "attention": [False]}}


def arrays(batch):
    return jax.tree.map(jnp.asarray, batch)


def facts_of(stage, batch):
    function = jax.jit(functools.partial(batch_facts, stage))
    return jax.device_get(function(jax.random.key(0), STEP, arrays(batch)))


def errors_of(stage, params, batch):
    function = jax.jit(functools.partial(error_facts, stage))
    return jax.device_get(function(params, jax.random.key(0), STEP, arrays(batch)))


def params_of(stage, fill_params):
    return fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 0)


def test_facts_of_a_batch_are_those_of_its_numbers():
    stage = tiny_stage("sr", diffusion={"cond_drop_prob": 0.5})
    batch = tiny_batch(stage)
    mask = batch.text.mask.copy()
    mask[:2] = False
    batch = batch._replace(text=TextEmbeddings(batch.text.embed, mask))
    facts = facts_of(stage, batch)
    unit = batch.image.astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(facts.channel_means, unit.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(facts.picture_range, [unit.min(), unit.max()], atol=1e-5)
    assert facts.empty_share == pytest.approx(2 / 8)
    assert facts.num_drawn == 64 * 6
    assert facts.dropped_share == pytest.approx(0.5, abs=0.1)


def test_noise_on_the_low_res_picture_is_measured():
    stage = tiny_stage("sr")
    seen = facts_of(stage, tiny_batch(stage)).augmentation
    assert seen.error.max() < 1e-6
    assert seen.other_error.min() > 0.05
    np.testing.assert_allclose(seen.seen, seen.told, atol=0.05)
    np.testing.assert_allclose(seen.meant, seen.told, atol=1e-5)
    assert np.abs(seen.inverted - seen.told).max() > 1
    assert seen.unexplained.max() < 1e-3


def test_what_is_fed_in_place_of_the_picture_is_unexplained(monkeypatch):
    def strange(x, size, method):
        return jax.random.normal(jax.random.key(9), (x.shape[0], size, size, 3))

    monkeypatch.setattr("imagen_jax.stage.upsample", strange)
    stage = tiny_stage("sr")
    seen = facts_of(stage, tiny_batch(stage)).augmentation
    assert seen.unexplained.min() > 0.5


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_silent_network_has_the_error_of_a_constant(prediction, fill_params):
    """These pictures' mean is near 0, and so is the best constant."""
    settings = {"prediction": prediction}
    stage = tiny_stage(diffusion=settings, network=NETWORKS["base"])
    silent = jax.tree.map(jnp.zeros_like, params_of(stage, fill_params))
    facts = errors_of(stage, silent, tiny_batch(stage))
    np.testing.assert_allclose(facts.learned / facts.constant, 1.0, atol=0.15)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_what_the_sampler_reads_as_the_picture_has_no_loss(prediction):
    stage = tiny_stage(diffusion={"prediction": prediction})
    function = jax.jit(functools.partial(target_facts, stage))
    facts = function(jax.random.key(0), STEP, arrays(tiny_batch(stage)))
    assert facts.ideal < 1e-6
    assert facts.opposite == pytest.approx(4, rel=1e-3)


def test_parts_of_a_batch_give_the_same_errors(fill_params):
    whole = tiny_stage(network=NETWORKS["base"])
    parts = tiny_stage(network=NETWORKS["base"], train={"microbatches": 2})
    params, batch = params_of(whole, fill_params), tiny_batch(whole)
    a, b = (errors_of(stage, params, batch) for stage in (whole, parts))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-3, 1e-6), a, b)


def state_of(params, ema_params):
    return TrainState(STEP, params, {"0.99": ema_params}, (), STEP, STEP)


def test_movement_is_the_relative_change_and_exactly_0_without():
    rng = np.random.default_rng(0)

    def normal():
        return jnp.asarray(rng.standard_normal((20, 30)), jnp.float32)

    old = {f"w{i}": normal() for i in range(40)}
    new = jax.tree.map(lambda x: x + 0.01 * normal(), old)
    meter = MovementMeter()
    assert meter.measure(state_of(old, old)) == {}
    moved = meter.measure(state_of(new, old))
    assert moved["ema/0.99"] == 0
    assert moved["params"] == pytest.approx(0.01, rel=0.5)
    assert meter.measure(state_of(new, new))["params"] == 0


def test_one_changed_element_is_a_movement():
    old = {"w": jnp.zeros((3, 5)), "b": jnp.ones(7)}
    new = {**old, "w": old["w"].at[2, 4].set(1e-3)}
    meter = MovementMeter()
    meter.measure(state_of(old, old))
    assert meter.measure(state_of(new, old))["params"] > 0


@pytest.mark.slow
def test_a_mesh_finds_what_one_device_finds():
    stage = tiny_stage("sr", network=NETWORKS["sr"])
    optimizer = make_optimizer(stage.config.optimizer, 12)
    state = init_state(stage, optimizer, jax.random.key(0))
    moved = state._replace(params=jax.tree.map(lambda x: 1.1 * x, state.params))
    host_batch, key = tiny_batch(stage), jax.random.key(1)
    metrics = {"learning_rate": 1e-3, "num_skipped_in_row": 0.0, "grad_norm/out": 1.0}

    def report(batch, mesh):
        monitor = HealthMonitor(stage, key, state, mesh)
        return monitor.report(moved, batch, metrics)

    alone = report(arrays(host_batch), None)
    mesh = make_mesh(MeshConfig(4, 2, 1))
    with jax.set_mesh(mesh):
        spread = report(to_global(host_batch, mesh), mesh)
    assert spread.values == pytest.approx(alone.values, rel=1e-3, abs=1e-5, nan_ok=True)
    assert spread.values["health/moved/params"] == pytest.approx(0.1 / 1.1, rel=1e-3)
    assert spread.values["health/moved/ema/0.9"] == 0
    assert {"gradient norms", "colour drift"} <= {f.topic for f in spread.findings}
    assert [f.fault for f in spread.faults] == ["EMA frozen", "EMA frozen"]
    assert spread.text.startswith("health at step 0:\n  picture range: ")
    assert "\n  FAULT EMA frozen: EMA 0.9: did not move" in spread.text
