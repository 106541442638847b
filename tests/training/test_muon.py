"""Oracle: `optax.contrib.muon`, and the singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from imagen_jax.config import MeshConfig
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.training.muon import UPDATE_RMS, muon, orthogonalize, scale_by_muon

# One size twice, stacked and alone; longer than wide, wider than long, and square.
SHAPES = {
    "conv": {"kernel": (3, 3, 16, 24), "bias": (24,)},
    "again": {"kernel": (3, 3, 16, 24)},
    "run": {"layers": {"kernel": (2, 3, 3, 16, 24), "scale": (2, 24)}},
    "wide": {"kernel": (12, 48)},
    "square": {"kernel": (24, 24), "scale": (24,)},
}


def random_tree(seed):
    rng = np.random.default_rng(seed)

    def of_shape(shape):
        # Singular values over three orders of magnitude, as momenta have them.
        size = np.exp(-7 * np.arange(shape[-1]) / shape[-1])
        return jnp.asarray(rng.standard_normal(shape) * size, jnp.float32)

    return jax.tree.map(of_shape, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def optax_muon():
    def dimensions(params):
        def of_leaf(keys, leaf):
            if keys[-1].key != "kernel":
                return None
            first = int(keys[-2].key == "layers")
            inputs = tuple(range(first, leaf.ndim - 1))
            return optax.contrib.MuonDimensionNumbers(inputs, (leaf.ndim - 1,))

        return jax.tree_util.tree_map_with_path(of_leaf, params)

    return optax.contrib.muon(
        lambda count: 1e-2 / (1 + count),
        weight_decay=0.1,
        adam_b1=0.8,
        adam_b2=0.9,
        muon_weight_dimension_numbers=dimensions,
        consistent_rms=UPDATE_RMS,
    )


def test_updates_are_those_of_optax():
    """Red if a kernel is transposed, a layer mixed with another, or a step left out."""
    ours = muon(lambda count: 1e-2 / (1 + count), 0.1, adam_b1=0.8, adam_b2=0.9)
    theirs = optax_muon()
    params = random_tree(0)
    state, state_of_theirs = ours.init(params), theirs.init(params)
    for step in range(3):
        grads = random_tree(step + 1)
        got, state = ours.update(grads, state, params)
        wanted, state_of_theirs = theirs.update(grads, state_of_theirs, params)
        assert jax.tree.structure(got) == jax.tree.structure(wanted)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * jnp.abs(b).max()),
            got,
            wanted,
        )


@pytest.mark.parametrize("shape", [(3, 40, 10), (3, 12, 10), (1, 10, 10)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    stack = np.random.default_rng(0).standard_normal(shape)
    u, s, vt = np.linalg.svd(stack, full_matrices=False)
    s = np.geomspace(1.0, 0.03, s.shape[-1])  # what five iterations lift to about 1
    got = np.asarray(orthogonalize(jnp.asarray((u * s) @ vt, jnp.float32)))
    turned = u.mT @ got @ vt.mT  # diagonal: the new singular values
    values = np.diagonal(turned, axis1=1, axis2=2)
    assert values.min() > 0.6
    assert values.max() < 1.25
    np.testing.assert_allclose(turned, values[:, None] * np.eye(shape[-1]), atol=1e-4)


def test_no_gradient_gives_no_update():
    params = {"kernel": jnp.zeros((4, 4)), "long": {"kernel": jnp.zeros((8, 2))}}
    rule = scale_by_muon()
    updates, _ = rule.update(params, rule.init(params))
    jax.tree.map(np.testing.assert_array_equal, updates, params)


@pytest.mark.parametrize("axes", [(2, 1, 1), (3, 1, 1), (8, 1, 1), (2, 2, 2)])
def test_devices_that_share_the_work_get_the_same_update(axes):
    """Four of one size: shared by two, unevenly by three, too few for eight."""
    data, fsdp, tensor = axes
    devices = jax.devices()[: data * fsdp * tensor]
    mesh = make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor), devices)
    rule = scale_by_muon()
    grads = random_tree(0)
    # Without biases, which are not Muon's.
    kernels = {name: part for name, part in grads.items() if name in ("again", "wide")}
    kernels["conv"] = {"kernel": grads["conv"]["kernel"]}
    kernels["run"] = {"layers": {"kernel": grads["run"]["layers"]["kernel"]}}
    wanted, _ = rule.update(kernels, rule.init(kernels))
    with jax.set_mesh(mesh):
        got, _ = jax.jit(rule.update)(kernels, rule.init(kernels))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, wanted)


def test_each_device_orthogonalises_its_share():
    mesh = make_mesh(MeshConfig(data=2), jax.devices()[:2])
    stack = jnp.zeros((8, 64, 64))

    def flops(mesh):
        with jax.set_mesh(mesh):
            compiled = jax.jit(orthogonalize).lower(stack).compile()
        return compiled.cost_analysis()["flops"]

    alone = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    assert flops(mesh) < 0.55 * flops(alone)
