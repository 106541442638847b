"""The mesh of devices, with axes `data`, `fsdp` and `tensor`.

The batch is split over `data` and `fsdp` together; parameters are split over `fsdp`
and, inside attention and residual blocks, over `tensor`. Over several slices (groups of
devices that only the data-center network, DCN, joins) goes `data` alone: per step it
carries one reduction of the gradients, the other axes carry much more.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


def make_mesh(
    config: MeshConfig = MeshConfig(), devices: Sequence[Any] | None = None
) -> Mesh:
    """Returns the mesh that the config asks for.

    Args:
      config: devices per axis; at most one axis is -1 = all that are left.
      devices: the `jax.Device`s to use; None means all.

    Raises:
      UserError: the product of the axes is not the number of devices, or the slices
        are not those that the config states.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = mesh_shape(config, len(devices))
    grid = _device_grid(shape, config.num_slices, devices)
    # Explicit axes, the default of jax.make_mesh, break Linen layers under FSDP.
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_shape(config: MeshConfig, num_devices: int) -> tuple[int, int, int]:
    """Returns the devices along data, fsdp and tensor, -1 replaced by what is left.

    Raises:
      UserError: their product is not the number of devices.
    """
    shape = [config.data, config.fsdp, config.tensor]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and num_devices % known == 0:
        shape[shape.index(-1)] = num_devices // known
    if math.prod(shape) != num_devices or min(shape) < 1:
        raise UserError(
            f"mesh data x fsdp x tensor = {config.data} x {config.fsdp} x "
            f"{config.tensor} does not make {num_devices} devices; "
            "set one of mesh.data, mesh.fsdp, mesh.tensor to -1 to take what is left"
        )
    data, fsdp, tensor = shape
    return data, fsdp, tensor


def _device_grid(
    shape: Sequence[int], num_slices: int, devices: Sequence[Any]
) -> np.ndarray:
    """Returns the devices laid out so that neighbours in the grid are near each other.

    Each slice holds consecutive coordinates of `data` and all of the other axes.
    """
    # Hosts with GPUs count as slices too, but may be left in one.
    found = len({getattr(device, "slice_index", 0) for device in devices})
    is_tpu = devices[0].platform == "tpu"
    if num_slices != found and (num_slices > 1 or is_tpu):
        raise UserError(
            f"mesh.num_slices is {num_slices}; the devices are in {found} slice(s)"
        )
    data, fsdp, tensor = shape
    if data % num_slices:
        raise UserError(
            f"mesh.data is {data}; it must be a multiple of mesh.num_slices, "
            f"{num_slices}, because only that axis may run over several slices"
        )
    if num_slices == 1:
        return mesh_utils.create_device_mesh(
            shape, devices=devices, allow_split_physical_axes=True
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // num_slices, fsdp, tensor),
        (num_slices, 1, 1),
        devices=devices,
        allow_split_physical_axes=True,
    )


def num_batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Returns how many parts the batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def data_shard(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Returns (parts, count): which of `count` even parts of a batch this host reads.

    It follows from mesh coordinates, not from the process index: hosts whose devices
    differ only along `tensor` read the same parts. On a TPU pod, where the mesh follows
    the wires, a host's parts are in general not consecutive.
    """
    rows = mesh.devices.reshape(num_batch_shards(mesh), -1)
    parts = [
        index
        for index, row in enumerate(rows)
        if any(device.process_index == jax.process_index() for device in row)
    ]
    return tuple(parts), len(rows)


def check_batch_size(batch_size: int, mesh: Mesh | AbstractMesh) -> None:
    """Raises a UserError unless the batch can be split evenly over the mesh."""
    shards = num_batch_shards(mesh)
    if batch_size % shards:
        raise UserError(
            f"train.batch_size is {batch_size}; it must be a multiple of mesh.data x "
            f"mesh.fsdp, here {shards}"
        )
