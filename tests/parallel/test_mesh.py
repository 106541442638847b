"""Mesh shapes, and each host's part of the batch, on 8 virtual devices."""

import dataclasses
import types
from unittest import mock

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import (
    AXES,
    check_batch_size,
    data_shard,
    make_mesh,
    num_batch_shards,
)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ((-1, 1, 1), (8, 1, 1)),
        ((-1, 4, 1), (2, 4, 1)),
        ((2, -1, 2), (2, 2, 2)),
        ((1, 2, -1), (1, 2, 4)),
        ((-1, 2, 4), (1, 2, 4)),
        ((2, 2, 2), (2, 2, 2)),
    ],
)
def test_minus_one_takes_the_devices_that_are_left(sizes, shape):
    mesh = make_mesh(MeshConfig(*sizes))
    assert mesh.axis_names == AXES
    assert mesh.devices.shape == shape
    assert sorted(device.id for device in mesh.devices.flat) == list(range(8))
    assert num_batch_shards(mesh) == shape[0] * shape[1]


def test_by_default_all_devices_share_the_batch():
    assert make_mesh().devices.shape == (8, 1, 1)


def test_axes_are_auto():
    """Red with jax.make_mesh's default, explicit axes: Linen layers refuse them."""
    assert set(make_mesh().axis_types) == {AxisType.Auto}


def test_a_part_of_the_devices_can_be_taken():
    devices = jax.devices()[2:6]
    mesh = make_mesh(MeshConfig(data=-1, fsdp=2), devices)
    assert mesh.devices.shape == (2, 2, 1)
    assert set(mesh.devices.flat) == set(devices)


@pytest.mark.parametrize(
    "sizes",
    [
        (3, 1, 1),
        (1, 1, 1),
        (4, 4, 1),
        (-1, 3, 1),
        (0, 1, 1),
        (-1, 0, 1),
        (-1, -1, 1),
        (-1, -1, 8),  # its product is 8
        (-2, -2, 2),  # and so is this one's
    ],
)
def test_a_shape_that_does_not_fit_is_refused(sizes):
    with pytest.raises(UserError) as error:
        make_mesh(MeshConfig(*sizes))
    assert "{} x {} x {} does not make 8 devices".format(*sizes) in str(error.value)
    assert "to -1 to take what is left" in str(error.value)


@dataclasses.dataclass(frozen=True)
class FakeDevice:
    """As much of a `jax.Device` as a mesh asks for."""

    id: int
    slice_index: int
    platform: str
    coords: tuple[int, int, int]
    device_kind: str = "TPU v4"
    core_on_chip: int = 0
    process_index: int = 0


def devices_of_slices(*sizes, platform="tpu"):
    """Stand-ins for the devices of slices of 2 x (size / 2) chips."""
    places = [(number, i) for number, size in enumerate(sizes) for i in range(size)]
    return [
        FakeDevice(id, number, platform, (i % 2, i // 2, 0))
        for id, (number, i) in enumerate(places)
    ]


def layout_of(config, devices):
    """The slice at each coordinate of the mesh that `config` makes of the devices."""
    grid = make_mesh(config, devices).devices
    assert sorted(device.id for device in grid.flat) == list(range(len(devices)))
    return np.vectorize(lambda device: device.slice_index)(grid)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MeshConfig(num_slices=2), (8, 1, 1)),
        (MeshConfig(data=-1, fsdp=4, num_slices=2), (2, 4, 1)),
        (MeshConfig(data=4, fsdp=1, tensor=-1, num_slices=2), (4, 1, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=2, num_slices=2), (2, 2, 2)),
    ],
)
def test_only_the_data_axis_runs_over_slices(config, shape):
    # The order in which JAX lists the devices must not matter.
    devices = devices_of_slices(4, 4)[::-1]
    layout = layout_of(config, devices)
    assert layout.shape == shape
    half = shape[0] // 2
    assert (layout[:half] == 0).all()
    assert (layout[half:] == 1).all()


@pytest.mark.parametrize(
    ("config", "slices", "text"),
    [
        (MeshConfig(num_slices=2), (8,), "mesh.num_slices is 2; the devices are in 1"),
        (MeshConfig(num_slices=4), (4, 4), "num_slices is 4; the devices are in 2"),
        (MeshConfig(), (4, 4), "mesh.num_slices is 1; the devices are in 2 slice(s)"),
        (
            MeshConfig(data=3, fsdp=4, num_slices=2),
            (6, 6),
            "mesh.data is 3; it must be a multiple of mesh.num_slices, 2",
        ),
    ],
)
def test_slices_that_are_not_as_stated_are_refused(config, slices, text):
    with pytest.raises(UserError) as error:
        make_mesh(config, devices_of_slices(*slices))
    assert text in str(error.value)


def test_hosts_with_gpus_are_slices_only_if_asked():
    devices = devices_of_slices(4, 4, platform="gpu")
    for num_slices in (1, 2):
        config = MeshConfig(data=2, fsdp=4, num_slices=num_slices)
        layout = layout_of(config, devices)
        assert layout.tolist() == [[[0]] * 4, [[1]] * 4]


def test_devices_that_state_no_slice_are_one():
    with pytest.raises(UserError, match=r"num_slices is 2; the devices are in 1"):
        make_mesh(MeshConfig(num_slices=2))
    with pytest.raises(UserError, match=r"mesh.num_slices is 0; it must be greater"):
        MeshConfig(num_slices=0)


def test_a_batch_that_does_not_split_evenly_is_refused():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    check_batch_size(12, mesh)  # `tensor` does not split the batch
    with pytest.raises(UserError, match=r"batch_size is 14.*multiple of .* here 4"):
        check_batch_size(14, mesh)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 8)])
def test_one_host_reads_the_whole_batch(sizes):
    count = sizes[0] * sizes[1]
    assert data_shard(make_mesh(MeshConfig(*sizes))) == (tuple(range(count)), count)


def mesh_of_hosts(hosts):
    """A mesh whose device at each coordinate belongs to the host written there."""
    devices = np.empty(np.shape(hosts), object)
    for place, host in np.ndenumerate(hosts):
        devices[place] = types.SimpleNamespace(process_index=host)
    mesh = mock.Mock(spec=Mesh)
    mesh.devices = devices
    mesh.shape = dict(zip(AXES, devices.shape, strict=True))
    return mesh


def shards_of(hosts, monkeypatch):
    """Each host's (index, count), in the order of the hosts."""
    shards = []
    for host in range(np.max(hosts) + 1):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        shards.append(data_shard(mesh_of_hosts(hosts)))
    return shards


@pytest.mark.parametrize(
    ("hosts", "shards"),
    [
        # 2 hosts x 4 devices, all along `data`.
        ([[[0]]] * 4 + [[[1]]] * 4, [((0, 1, 2, 3), 8), ((4, 5, 6, 7), 8)]),
        # 4 hosts x 2 devices: hosts along `data`, a host's devices along `fsdp`.
        ([[[0], [0]], [[1], [1]]], [((0, 1), 4), ((2, 3), 4)]),
        # 2 hosts along `fsdp` inside one part of `data`: still rows of the batch.
        ([[[0], [0], [1], [1]]], [((0, 1), 4), ((2, 3), 4)]),
        # The order is that of the coordinates, not of the process index.
        ([[[1, 1]], [[0, 0]]], [((1,), 2), ((0,), 2)]),
        # A host's devices are a square of the grid, as on a pod.
        (
            [[[0], [0], [1], [1]], [[0], [0], [1], [1]]],
            [((0, 1, 4, 5), 8), ((2, 3, 6, 7), 8)],
        ),
        # Hosts that differ along `tensor` read the same rows: red if the parts come
        # from the process index.
        ([[[0, 0, 1, 1]], [[2, 2, 3, 3]]], [((0,), 2)] * 2 + [((1,), 2)] * 2),
    ],
)
def test_hosts_share_the_batch(hosts, shards, monkeypatch):
    assert shards_of(hosts, monkeypatch) == shards


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (-1, 4, 1), (-1, 16, 1), (-1, 2, 2)])
def test_all_rows_are_read_on_a_pod_of_which_each_host_holds_a_square(
    sizes, monkeypatch
):
    """Red if a host's rows had to be consecutive: they are in none of these shapes."""
    coords = [(x, y, z) for z in range(4) for y in range(4) for x in range(4)]
    devices = [
        FakeDevice(i, 0, "tpu", (x, y, z), process_index=x // 2 + y // 2 * 2 + z * 4)
        for i, (x, y, z) in enumerate(coords)
    ]
    mesh = make_mesh(MeshConfig(*sizes), devices)
    readers = []
    for host in range(16):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        parts, count = data_shard(mesh)
        assert count == num_batch_shards(mesh)
        readers += parts
    assert sorted(set(readers)) == list(range(count))
    assert len(readers) == count  # no host reads what another does
