"""Where parameters, moments and batches live, on 8 virtual devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from imagen_jax.config import MeshConfig
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import (
    batch_sharding,
    constrain_batch,
    partition_spec,
    replicated,
    to_global,
    tree_shardings,
    unsharded_by_tensor,
)
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from tests.tiny import tiny_batch, tiny_stage


def mesh_of(data, fsdp, tensor):
    return make_mesh(MeshConfig(data, fsdp, tensor))


def leaves_by_name(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@functools.cache
def params_of(kind):
    """Name -> shape of a tiny stage's parameters."""
    abstract = jax.eval_shape(tiny_stage(kind).init_params, jax.random.key(0))
    return {name: leaf.shape for name, leaf in leaves_by_name(abstract).items()}


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        # Attention: heads are split, `out` sums over them.
        ("down_1_block_0/attention/query/kernel", (12, 16), P(None, "tensor")),
        ("down_1_block_0/attention/key/bias", (16,), P("tensor")),
        ("down_1_block_0/attention/text_value/kernel", (12, 16), P(None, "tensor")),
        ("middle_attention/value/kernel", (16, 16), P(None, "tensor")),
        ("middle_attention/out/kernel", (16, 16), P("tensor")),
        ("middle_attention/out/bias", (16,), P()),
        ("middle_attention/norm/scale", (16,), P()),
        # A residual block: conv_in's outputs are conv_out's inputs.
        ("middle_res_0/conv_in/kernel", (3, 3, 8, 16), P(None, None, None, "tensor")),
        ("middle_res_0/conv_in/bias", (16,), P("tensor")),
        ("middle_res_0/norm_out/scale", (16,), P("tensor")),
        ("middle_res_0/conv_out/kernel", (3, 3, 16, 8), P(None, None, "tensor")),
        ("middle_res_0/conv_out/bias", (8,), P()),
        ("middle_res_0/norm_in/scale", (8,), P()),
        ("middle_res_0/film/kernel", (32, 32), P()),
        # Scanned layers: as the layer alone, behind the layer axis.
        (
            "up_1_blocks/layers/res/conv_out/kernel",
            (2, 3, 3, 16, 8),
            P(None, None, None, "tensor"),
        ),
        ("up_1_blocks/layers/res/conv_in/bias", (2, 16), P(None, "tensor")),
        # What no rule names, or does not divide.
        ("conditioner/text_pooling/query/kernel", (12, 64), P()),
        ("stem/kernel", (3, 3, 4, 8), P()),
        ("middle_attention/query/kernel", (12, 15), P()),
    ],
)
def test_tensor_axis_splits_heads_and_convolution_pairs(path, shape, spec):
    assert partition_spec(path, shape, mesh_of(4, 1, 2)) == spec
    assert partition_spec(path, shape, mesh_of(8, 1, 1)) == P()
    for moment in ("opt_state/0/mu/", "ema_params/0.9/"):
        assert partition_spec(moment + path, shape, mesh_of(4, 1, 2)) == spec


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_rules_meet_the_names_of_the_networks(kind):
    """Red when a layer is renamed and its rule is not: it would be replicated."""
    mesh = mesh_of(4, 1, 2)
    projections = [prefix + x for prefix in ("", "text_") for x in ("key", "value")]
    axis_of = {f"attention/{x}/kernel": -1 for x in ["query", *projections]}
    axis_of |= {f"attention/{x}/bias": -1 for x in ["query", *projections]}
    axis_of |= {"attention/out/kernel": -2, "conv_in/kernel": -1, "conv_in/bias": -1}
    axis_of |= {"conv_out/kernel": -2, "norm_out/scale": -1, "norm_out/bias": -1}
    met = set()
    for name, shape in params_of(kind).items():
        expected = [None] * len(shape)
        for end, axis in axis_of.items():
            if name.endswith(end):
                expected[axis] = "tensor"
                met.add(end)
        spec = partition_spec(name, shape, mesh)
        assert list(spec) + [None] * (len(shape) - len(spec)) == expected, name
    assert met == axis_of.keys()


def test_leaves_that_a_tensor_rule_cannot_split_are_named():
    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    tree = {
        "attention": {
            "query": {"kernel": leaf(8, 6)},
            "out": {"kernel": leaf(8, 6)},
        },
        "res": {"conv_in": {"kernel": leaf(3, 3, 4, 10), "bias": leaf(10)}},
        "stem": {"kernel": leaf(3, 3, 3, 7)},
    }
    assert unsharded_by_tensor(tree, mesh_of(2, 1, 4)) == [
        "attention/query/kernel",
        "res/conv_in/bias",
        "res/conv_in/kernel",
    ]
    assert unsharded_by_tensor(tree, mesh_of(4, 1, 2)) == []


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("stem/kernel", (3, 3, 512, 256), P(None, None, "fsdp")),
        ("film/kernel", (256, 256), P(None, "fsdp")),  # of equals the last
        ("film/kernel", (510, 256), P(None, "fsdp")),  # 510 does not divide
        ("film/kernel", (129, 129), P()),
        ("film/kernel", (128, 128), P(None, "fsdp")),  # the smallest that is split
        ("film/kernel", (128, 124), P()),
        ("conv_out/bias", (2**14,), P("fsdp")),
        # Never the layer axis, be it the largest and divisible.
        ("down_1_blocks/layers/film/kernel", (1024, 128, 4), P(None, "fsdp")),
        ("down_1_blocks/layers/film/kernel", (1024, 127, 3), P()),
        ("up_1_blocks/layers/res/conv_out/bias", (512, 64), P(None, "fsdp")),
    ],
)
def test_fsdp_splits_the_largest_dimension_that_divides(path, shape, spec):
    assert partition_spec(path, shape, mesh_of(2, 4, 1)) == spec
    assert partition_spec(path, shape, mesh_of(8, 1, 1)) == P()


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("attention/query/kernel", (256, 256), P("fsdp", "tensor")),
        ("attention/out/kernel", (256, 256), P("tensor", "fsdp")),
        ("conv_in/kernel", (3, 3, 64, 128), P(None, None, "fsdp", "tensor")),
        ("layers/conv_out/kernel", (2, 3, 3, 64, 64), P(*3 * [None], "tensor", "fsdp")),
        ("conv_in/kernel", (1, 1, 127, 2**10), P(None, None, None, "tensor")),
    ],
)
def test_fsdp_takes_a_dimension_that_tensor_leaves(path, shape, spec):
    assert partition_spec(path, shape, mesh_of(2, 2, 2)) == spec


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_small_leaves_are_replicated(kind):
    mesh = mesh_of(1, 8, 1)
    assert all(partition_spec(n, s, mesh) == P() for n, s in params_of(kind).items())


def abstract_state(kind, optimizer, **changes):
    stage = tiny_stage(kind, optimizer={"kind": optimizer, "clip_norm": 1.0}, **changes)
    rule = make_optimizer(stage.config.optimizer, 10)
    return jax.eval_shape(lambda key: init_state(stage, rule, key), jax.random.key(0))


# Per parameter: itself, two averages and the optimizer's moments; Muon keeps one moment
# of kernels and two of the rest, Adafactor one of each where nothing is factored.
@pytest.mark.parametrize(
    ("kind", "optimizer", "copies"),
    [("base", "adam", {5}), ("sr", "muon", {4, 5}), ("base", "adafactor", {4})],
)
def test_moments_and_averages_live_where_their_parameter_does(
    kind, optimizer, copies, monkeypatch
):
    monkeypatch.setattr("imagen_jax.parallel.sharding.MIN_FSDP_SIZE", 64)
    mesh = mesh_of(2, 2, 2)
    state = abstract_state(kind, optimizer)
    shapes = {name: leaf.shape for name, leaf in leaves_by_name(state).items()}
    shardings = leaves_by_name(tree_shardings(state, mesh))
    assert shardings.keys() == shapes.keys()
    counts, axes = set(), set()
    for param, shape in params_of(kind).items():
        # Names such as "out/kernel" also end others: the field must come right before.
        followers = [
            name
            for name in shapes
            if name.endswith(f"/{param}") and shapes[name] == shape
            if name.removesuffix(f"/{param}").split("/")[-1]
            in ("params", "0.9", "0.99", "mu", "nu", "v")
        ]
        counts.add(len(followers))
        spec = shardings[f"params/{param}"].spec
        axes.update(axis for axis in spec if axis)
        assert {shardings[name].spec for name in followers} == {spec}, param
    assert counts == copies
    assert axes == {"fsdp", "tensor"}


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 1, 8)])
def test_layers_stay_whole_and_shards_are_even(sizes, monkeypatch):
    monkeypatch.setattr("imagen_jax.parallel.sharding.MIN_FSDP_SIZE", 16)
    network = {"num_res_blocks": [3, 3]}  # more than one block, so some are stacked
    state = abstract_state("base", "adam", network=network)
    shapes = {name: leaf.shape for name, leaf in leaves_by_name(state).items()}
    num_stacked = 0
    for name, sharding in leaves_by_name(
        tree_shardings(state, mesh_of(*sizes))
    ).items():
        whole, part = (
            shapes[name],
            sharding.shard_shape(shapes[name]),
        )  # raises if uneven
        if "/layers/" in name:
            assert part[0] == whole[0], name
            num_stacked += 1
    assert num_stacked > 100


@pytest.mark.parametrize("sizes", [(4, 2, 1), (2, 2, 2), (1, 1, 8)])
def test_a_host_s_rows_become_one_global_batch(sizes):
    mesh = mesh_of(*sizes)
    batch = tiny_batch(tiny_stage())
    moved = to_global(batch, mesh)
    assert moved.low_res is None
    for rows, array in zip(jax.tree.leaves(batch), jax.tree.leaves(moved), strict=True):
        assert array.dtype == rows.dtype
        assert array.sharding == batch_sharding(mesh)
        np.testing.assert_array_equal(array, rows)
        per_device = len(rows) // (sizes[0] * sizes[1])
        places = {device: i for i, device in enumerate(mesh.devices.flat)}
        for shard in array.addressable_shards:
            start = places[shard.device] // sizes[2] * per_device
            np.testing.assert_array_equal(shard.data, rows[start : start + per_device])


def test_activations_are_told_to_follow_the_batch():
    mesh = mesh_of(2, 2, 2)
    with jax.set_mesh(mesh):
        got = jax.jit(constrain_batch)(
            jax.device_put(np.ones((8, 3)), replicated(mesh))
        )
    assert got.sharding.is_equivalent_to(batch_sharding(mesh), 2)
