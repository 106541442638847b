import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imagen_jax.checkpoint import Checkpoints
from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh


def state_on(spec, *sizes, scale=1):
    mesh = make_mesh(MeshConfig(*sizes))
    values = scale * np.arange(64, dtype=np.float32).reshape(8, 8)
    return {"x": jax.device_put(values, NamedSharding(mesh, spec))}


def write(folder, steps, keep=3):
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, state_on(PartitionSpec("fsdp"), 1, 8, scale=step))
    checkpoints.close()


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_another_mesh_takes_the_newest_up_bitwise(tmp_path):
    write(tmp_path, (1, 2))
    wanted = state_on(PartitionSpec("data", "fsdp"), 2, 4, scale=2)
    checkpoints = Checkpoints(tmp_path)
    restored = checkpoints.restore(
        jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
            wanted,
        )
    )
    checkpoints.close()
    assert restored["x"].sharding == wanted["x"].sharding
    np.testing.assert_array_equal(restored["x"], wanted["x"])


def test_the_newest_are_kept(tmp_path):
    write(tmp_path, (3, 6, 9), keep=2)
    assert names(tmp_path) == ["6", "9"]


def test_what_a_killed_run_had_not_finished_is_removed(tmp_path):
    """Also of a step that is not saved again: it would take room for ever."""
    write(tmp_path, (3,))
    for step in (5, 6):
        unfinished = tmp_path / "checkpoints" / f"{step}.orbax-checkpoint-tmp"
        unfinished.mkdir()
        (unfinished / "half").write_text("written")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 3
    checkpoints.save(6, state_on(PartitionSpec("fsdp"), 1, 8))
    checkpoints.close()
    assert names(tmp_path) == ["3", "6"]
    assert not (tmp_path / "checkpoints" / "6" / "half").exists()


def test_a_state_of_other_shapes_is_refused(tmp_path):
    write(tmp_path, (1,))
    checkpoints = Checkpoints(tmp_path)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with pytest.raises(UserError, match="another model or optimizer"):
        checkpoints.restore({"x": jax.ShapeDtypeStruct((9,), "f4", sharding=device)})
    checkpoints.close()
