"""Checksums of arrays where they lie: the same whatever devices hold which part.

A sum modulo 2^32 does not depend on the order of its terms, so each device sums the
part that it holds, and a checkpoint read onto another mesh has the checksums that were
written with it. A term is a mix of an element's bits and its place. Mixing is one to
one, so any change within one element changes the sum; of changes in several, one in
2^32 does not.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Shaped, UInt32

from imagen_jax.parallel.sharding import leaf_name

_SPREAD = np.uint32(0x9E3779B1)  # 2^32 / golden ratio, odd
_ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))  # MurmurHash3's last mixing


def mixed_places(
    shape: tuple[int, ...], seed: UInt32[Array, ""] | np.uint32
) -> UInt32[Array, "..."]:
    """Returns a well-mixed number for each place of an array, another for each seed."""
    place = jnp.full(shape, seed)
    for axis in range(len(shape)):
        axis_place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        place = place * _SPREAD + axis_place
    return _mix(place)


def checksum(
    array: Shaped[Array, "..."], places: UInt32[Array, "..."]
) -> UInt32[Array, ""]:
    """Returns the checksum of an array's bits.

    Args:
      array: of elements of 1, 2 or 4 bytes.
      places: from `mixed_places`.
    """
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
    return jnp.sum(_mix(bits ^ places), dtype=jnp.uint32)


def _mix(numbers: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    for shift, factor in _ROUNDS:
        numbers = (numbers ^ (numbers >> np.uint32(shift))) * np.uint32(factor)
    return numbers


def tree_checksums(tree: Any, *, once: bool = False) -> dict[str, int]:
    """Returns the checksum of each leaf by its path, such as "params/conv/kernel".

    All processes that hold a part of the arrays call this together.

    Args:
      tree: of jax arrays.
      once: give the memory of the compiled programs back, some MB for each shape of a
        leaf, instead of keeping them for the next call.
    """
    compiled = functools.cache(_compile) if once else _compiled
    # One after another: in each the devices wait for one another, and of many in flight
    # they may take all threads of a CPU before the last device has come to the first.
    return {
        leaf_name(path): int(compiled(_everywhere(leaf.sharding))(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _everywhere(sharding: Sharding) -> Sharding | None:
    """Returns the sharding of a number that all devices of `sharding` hold."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return None


def _compile(sharding: Sharding | None) -> Any:
    """Returns `checksum`, to be compiled for each shape of a leaf, not for a tree."""
    return jax.jit(
        lambda leaf: checksum(leaf, mixed_places(leaf.shape, np.uint32(0))),
        out_shardings=sharding,
    )


_compiled = functools.cache(_compile)
