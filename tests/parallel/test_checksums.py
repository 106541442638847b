"""Checksums see any change of a bit, and no difference of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imagen_jax.config import MeshConfig
from imagen_jax.parallel.checksums import tree_checksums
from imagen_jax.parallel.mesh import make_mesh

VALUES = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)


def one(array):
    return tree_checksums({"x": jnp.asarray(array)})["x"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_a_flipped_bit_of_any_dtype_is_seen(dtype):
    array = np.asarray(jnp.asarray(VALUES > 0 if dtype == "bool" else VALUES, dtype))
    sums = {one(array)}
    size = array.dtype.itemsize
    for element in (0, 77, 127):
        for bit in range(1 if dtype == "bool" else 8 * size):
            data = bytearray(array.tobytes())
            data[element * size + bit // 8] ^= 1 << (bit % 8)
            sums.add(one(np.frombuffer(bytes(data), array.dtype).reshape(8, 16)))
    assert len(sums) == 1 + 3 * (1 if dtype == "bool" else 8 * size)


def test_two_signs_that_flip_are_seen():
    flipped = VALUES.copy()
    flipped[0, :2] *= -1
    assert one(flipped) != one(VALUES)


def test_values_that_change_places_are_seen():
    for axis in (0, 1):
        assert one(np.roll(VALUES, 1, axis)) != one(VALUES)
    assert one(VALUES.T) != one(VALUES)


@pytest.mark.parametrize("sizes", [(1, 8), (8, 1), (2, 4)])
def test_the_layout_on_devices_changes_nothing(sizes):
    mesh = make_mesh(MeshConfig(*sizes))
    for spec in (PartitionSpec("data", "fsdp"), PartitionSpec(), PartitionSpec("fsdp")):
        placed = jax.device_put(VALUES, NamedSharding(mesh, spec))
        assert tree_checksums({"x": placed}) == {"x": one(VALUES)}


def test_leaves_are_named_by_their_path():
    tree = {"a": {"b": jnp.ones(3)}, "c": [jnp.zeros(()), jnp.int32(1)]}
    assert list(tree_checksums(tree)) == ["a/b", "c/0", "c/1"]
