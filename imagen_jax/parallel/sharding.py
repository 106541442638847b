"""Where each array lives on the mesh: an ordered table of rules, then a fallback.

Rules match the end of a parameter's path and shard over `tensor` attention heads, the
pair conv_in/conv_out of a residual block and the pair mlp_in/mlp_out of a text encoder.
Every leaf of at least `MIN_FSDP_SIZE` elements is then split over `fsdp` along its
largest dimension that divides. The same function places gradients, moments and EMA
weights, since their paths end in their parameter's. The leading axis of scanned layers
is never split: each device needs its part of every layer.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from imagen_jax.parallel.mesh import BATCH_AXES, data_shard

MIN_FSDP_SIZE = 2**14

# (path ends in, axes of the last dimensions). The first match counts.
_HEADS = r"(attention|middle_attention)/(text_)?(query|key|value)"
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (_HEADS + r"/kernel$", (None, "tensor")),
    (_HEADS + r"/bias$", ("tensor",)),
    (r"(attention|middle_attention)/out/kernel$", ("tensor", None)),
    (r"conv_in/kernel$", (None, None, None, "tensor")),
    (r"conv_in/bias$", ("tensor",)),
    (r"norm_out/(scale|bias)$", ("tensor",)),
    (r"conv_out/kernel$", (None, None, "tensor", None)),
    # The feed-forward parts of text encoders.
    (r"mlp_(in|gate)/kernel$", (None, "tensor")),
    (r"mlp_(in|gate)/bias$", ("tensor",)),
    (r"mlp_out/kernel$", ("tensor", None)),
)
_STACKED = re.compile(r"(^|/)layers/")


def leaf_name(keys: Any) -> str:
    """Returns the name of a leaf from its path in a tree: "level/layer/kernel"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def is_stacked(path: str) -> bool:
    """Returns whether a leaf's first axis is the layer, of several scanned together."""
    return _STACKED.search(path) is not None


def partition_spec(
    path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Returns where a leaf lives.

    Args:
      path: names from the root of the tree, joined by "/".
      shape: the leaf's shape.
      mesh: the mesh.
    """
    axes: list[str | None] = [None] * len(shape)
    first = int(is_stacked(path))  # skip the layer axis
    for pattern, rule in RULES:
        if re.search(pattern, path) and len(rule) == len(shape) - first:
            for i, axis in enumerate(rule, start=first):
                if axis and shape[i] % mesh.shape[axis] == 0 and mesh.shape[axis] > 1:
                    axes[i] = axis
            break
    fsdp = mesh.shape["fsdp"]
    if fsdp > 1 and np.prod(shape, dtype=np.int64) >= MIN_FSDP_SIZE:
        free = [i for i in range(first, len(shape)) if axes[i] is None]
        divisible = [i for i in free if shape[i] % fsdp == 0]
        if divisible:
            axes[max(divisible, key=lambda i: (shape[i], i))] = "fsdp"
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)


def tree_shardings(abstract_tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Returns a NamedSharding for each leaf of a tree of shapes."""

    def of_leaf(path, leaf):
        spec = partition_spec(leaf_name(path), leaf.shape, mesh)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(of_leaf, abstract_tree)


def place_on(mesh: Mesh) -> Callable[[str, np.ndarray], jax.Array]:
    """Returns (path, host array) -> the array on the mesh, split as its path says.

    Every host holds the whole leaf for a moment, and sends its devices their parts.
    """

    def place(path: str, leaf: np.ndarray) -> jax.Array:
        sharding = NamedSharding(mesh, partition_spec(path, leaf.shape, mesh))
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    return place


def unsharded_by_tensor(abstract_tree: Any, mesh: Mesh) -> list[str]:
    """Returns paths that a `tensor` rule names but that do not divide: replicated."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_tree):
        name = leaf_name(path)
        ruled = any("tensor" in rule and re.search(p, name) for p, rule in RULES)
        if ruled and "tensor" not in partition_spec(name, leaf.shape, mesh):
            found.append(name)
    return found


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of anything whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def to_global(host_batch: Any, mesh: Mesh) -> Any:
    """Returns this host's rows of a batch as part of global arrays.

    Args:
      host_batch: a pytree of numpy arrays, the parts that `data_shard(mesh)` names one
        after the other.
      mesh: the mesh.
    """
    sharding = batch_sharding(mesh)
    parts, count = data_shard(mesh)

    def of_leaf(rows: np.ndarray) -> jax.Array:
        size = rows.shape[0] // len(parts)

        def part(index: Any) -> np.ndarray:  # a tuple of slices
            place = parts.index((index[0].start or 0) // size)
            return rows[place * size : (place + 1) * size]

        shape = (size * count, *rows.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(of_leaf, host_batch)


def constrain_batch(x: jax.Array) -> jax.Array:
    """Returns `x`, told to the compiler to be split over the batch; needs a mesh set.

    The networks call it at each level boundary, so that activations never follow the
    parameters' sharding.
    """
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))
