"""Estimates against closed forms and against arrays that are really there."""

import dataclasses

import jax
import pytest

from imagen_jax.config import MeshConfig
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.planning import memory
from imagen_jax.planning.encoders import abstract_encoder
from imagen_jax.planning.estimate import (
    estimate_training,
    schedule,
    step_sent_bytes,
    store_bytes,
)
from imagen_jax.planning.programs import abstract_state
from imagen_jax.planning.topology import find_slice
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import state_shardings
from imagen_jax.training.optimizer import make_optimizer
from tests.tiny import ONE_LEVEL, tiny_config

ONE = ONE_LEVEL["base"]  # tracing takes half the time


def of(config, num_chips=8):
    mesh = memory.abstract_mesh(config, num_chips)
    _, part = memory.chip_rows(config, mesh)
    jaxpr, _ = memory.gradient_jaxpr(config, part)
    return memory.train_bytes(config, mesh, jaxpr)


def with_(config, group, **fields):
    inner = dataclasses.replace(getattr(config, group), **fields)
    return dataclasses.replace(config, **{group: inner})


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_state_is_what_a_chip_really_holds(shape, monkeypatch):
    """The bytes of one device's shards of arrays placed by the run's shardings."""
    from imagen_jax.parallel import sharding

    monkeypatch.setattr(sharding, "MIN_FSDP_SIZE", 64)
    config = tiny_config(mesh=dict(zip(("data", "fsdp", "tensor"), shape, strict=True)))
    mesh = make_mesh(MeshConfig(*shape))
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    shardings = state_shardings(build_stage(config), optimizer, mesh)
    placed = jax.tree.map(
        lambda leaf, where: jax.device_put(
            jax.numpy.zeros(leaf.shape, leaf.dtype), where
        ),
        abstract_state(config),
        shardings,
    )

    def first(tree):
        return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))

    estimate = of(config)
    assert estimate.weights == first(placed.params)
    assert estimate.moments == first(placed.opt_state)
    assert estimate.ema == first(placed.ema_params)


def test_adam_has_two_moments_and_an_average_per_decay():
    config = tiny_config()
    estimate = of(config)
    counters = 64  # a few integers
    assert abs(estimate.moments - 2 * estimate.weights) <= counters
    assert estimate.ema == len(config.train.ema_decays) * estimate.weights


def test_activations_grow_with_the_pictures_and_not_with_the_chips():
    config = tiny_config(network=ONE, train={"batch_size": 64})
    small, large = of(config), of(with_(config, "train", batch_size=128))
    assert large.activations > 1.5 * small.activations
    assert of(with_(config, "train", batch_size=128), 16) == small


@pytest.mark.parametrize(
    ("group", "fields"),
    [("network", {"remat": True}), ("train", {"microbatches": 4})],
)
def test_what_saves_memory_is_seen_to(group, fields):
    config = tiny_config(
        network={**ONE, "num_res_blocks": [3]}, resolution=32, train={"batch_size": 64}
    )
    saved = of(with_(config, group, **fields))
    assert saved.activations < 0.8 * of(config).activations
    assert saved.state == of(config).state


def test_sent_bytes_without_splitting_are_one_all_reduce():
    config = tiny_config()
    mesh = memory.abstract_mesh(config, 8)
    params = abstract_state(config).params
    size = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
    assert step_sent_bytes(config, params, mesh) == pytest.approx(2 * 7 / 8 * size)


def test_xxl_has_its_published_parameters():
    """4.76 B, of which 0.13 B are the table of tokens."""
    _, params = abstract_encoder("t5_v1_1_xxl")
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4_762_310_656
    mesh = memory.abstract_mesh(tiny_config(mesh={"data": 1, "fsdp": 16}), 16)
    held = memory.encoder_bytes("t5_v1_1_xxl", mesh, 16, 8)
    assert held.weights == pytest.approx(2 * 4_762_310_656 / 16, rel=0.01)


def test_days_and_chip_hours():
    config = tiny_config(train={"batch_size": 8, "num_steps": 1000})
    config = with_(config, "network", dtype="bfloat16")
    chips = find_slice("v5e:2x4")
    run = schedule(config, chips, flops_per_picture=197 * 10**12, steps=864, mfu=0.1)
    # 8 pictures of a chip-second each on 8 chips, at a tenth of the peak: 10 s a step.
    assert run.days == pytest.approx(0.1)
    assert run.chip_hours == pytest.approx(0.1 * 24 * 8)


def test_the_store_of_the_readme():
    assert store_bytes(10**6, 20, 4096, "bfloat16") / 1e9 == pytest.approx(164, abs=0.5)
    assert store_bytes(10**6, 20, 4096, "int8") / 1e9 == pytest.approx(82, abs=0.5)


def test_model_flops_do_not_count_what_is_recomputed():
    config = tiny_config(network=ONE)
    mesh = memory.abstract_mesh(config, 8)
    plain = estimate_training(config, mesh)
    remat = estimate_training(with_(config, "network", remat=True), mesh)
    assert remat.flops_per_picture == plain.flops_per_picture
    assert remat.step_flops > plain.step_flops


def test_the_peak_is_the_state_the_batch_and_the_larger_of_two_moments():
    size = memory.TrainBytes(1, 2, 4, 8, activations=16, update=32)
    assert (size.state, size.peak) == (7, 47)
    assert size._replace(activations=64).peak == 79
