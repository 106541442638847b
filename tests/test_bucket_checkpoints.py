"""Checkpoints through a bucket: fsspec's memory here, local servers elsewhere."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imagen_jax.bucket_checkpoints import open_checkpoints
from imagen_jax.checkpoint import Checkpoints, restore_ema_params
from imagen_jax.config import MeshConfig
from imagen_jax.data.checkpoint_parts import CheckpointParts
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.workdir import local_copy, open_workdir
from tests.emulators import empty_memory

URL = "memory://run"


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    empty_memory()
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))


def state_on(spec, *sizes, scale=1):
    mesh = make_mesh(MeshConfig(*sizes))
    values = scale * np.arange(64, dtype=np.float32).reshape(8, 8)
    leaf = jax.device_put(values, NamedSharding(mesh, spec))
    return {"ema_params": {"0.9": {"x": leaf}}, "params": {"x": leaf}}


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def start(*settings):
    """Starts a run on a new machine, so to say: its disk is empty."""
    workdir = open_workdir(URL)
    workdir.fetch()
    workdir.clean()
    return workdir, open_checkpoints(workdir, *settings)


def write(losses, *settings):
    _, checkpoints = start(*settings)
    for step, loss in losses.items():
        state = state_on(PartitionSpec("fsdp"), 1, 8, scale=step)
        checkpoints.save(step, state, loss)
    checkpoints.close()


def steps():
    return sorted(CheckpointParts(f"{URL}/checkpoints", 0, 1).losses())


def test_a_path_has_the_checkpoints_of_a_disk(tmp_path):
    checkpoints = open_checkpoints(open_workdir(tmp_path), 2, 5, True)
    assert isinstance(checkpoints, Checkpoints)
    checkpoints.close()


def test_another_mesh_takes_the_newest_up_bitwise():
    write({3: None, 6: None})
    wanted = state_on(PartitionSpec("data", "fsdp"), 2, 4, scale=6)
    workdir, checkpoints = start()
    assert checkpoints.latest_step() == 6
    restored = checkpoints.restore(abstract(wanted))
    checkpoints.close()
    assert restored["params"]["x"].sharding == wanted["params"]["x"].sharding
    np.testing.assert_array_equal(restored["params"]["x"], wanted["params"]["x"])
    assert not list((workdir.local / "checkpoints").iterdir())  # room is given back


def test_nothing_is_there_at_first():
    _, checkpoints = start()
    assert checkpoints.latest_step() is None
    checkpoints.close()


def test_retention_is_that_of_a_disk_and_remembers_the_best():
    write({1: 0.5, 2: 0.2, 3: float("nan"), 4: 0.4}, 1, 3, True)
    assert steps() == [2, 3, 4]
    write({5: 0.3}, 1, 3, True)
    assert steps() == [2, 3, 5]
    write({6: 0.1, 7: None}, 1, 3, True)
    assert steps() == [3, 6, 7]
    assert open_folder(f"{URL}/checkpoints/2").names() == set()


def test_small_files_are_never_behind_the_checkpoint(monkeypatch):
    workdir, checkpoints = start()
    seen = []
    commit = CheckpointParts.commit

    def watched(self, *arguments):
        seen.append(open_folder(URL).read("metrics.jsonl"))
        commit(self, *arguments)

    monkeypatch.setattr(CheckpointParts, "commit", watched)
    for step in (1, 2):
        (workdir.local / "metrics.jsonl").write_text(f"up to {step}")
        checkpoints.save(step, state_on(PartitionSpec(), scale=step))
        checkpoints.wait()
    checkpoints.close()
    assert seen == [b"up to 1", b"up to 2"]


def test_a_kill_before_the_marker_leaves_the_checkpoint_before(monkeypatch):
    write({1: None})
    _, checkpoints = start()
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointParts, "commit", lambda *_: None)
        checkpoints.save(2, state_on(PartitionSpec(), scale=2))
        checkpoints.close()
    assert "2" in open_folder(f"{URL}/checkpoints").names()
    _, checkpoints = start()
    assert checkpoints.latest_step() == 1
    checkpoints.close()
    assert open_folder(f"{URL}/checkpoints/2").names() == set()


@pytest.mark.parametrize("then", ["wait", "save", "close"])
def test_an_upload_that_failed_is_told_at_the_next_chance(monkeypatch, then):
    _, checkpoints = start()

    def fail(*_):
        raise UserError("memory://run cannot be used")

    monkeypatch.setattr(CheckpointParts, "put", fail)
    checkpoints.save(1, state_on(PartitionSpec()))
    with pytest.raises(UserError, match="cannot be used"):
        checkpoints.save(2, None) if then == "save" else getattr(checkpoints, then)()
    checkpoints.close()
    assert steps() == []


def test_a_step_is_saved_once():
    write({1: None})
    _, checkpoints = start()
    checkpoints.save(1, None)
    checkpoints.close()
    assert steps() == [1]


def test_a_state_of_other_shapes_is_refused():
    write({1: None})
    _, checkpoints = start()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with pytest.raises(UserError, match="memory://run/checkpoints/1 is of another mod"):
        checkpoints.restore({"x": jax.ShapeDtypeStruct((9,), "f4", sharding=device)})
    checkpoints.close()


def test_weights_for_sampling_come_through_a_local_copy():
    write({1: 0.1, 2: 0.2}, 2, 0, True)
    open_folder(URL).write("config.json", b"{}")
    wanted = state_on(PartitionSpec())["params"]
    for choice, scale in ((None, 2), ("best", 1)):
        params = restore_ema_params(local_copy(URL, choice), "0.9", abstract(wanted))
        np.testing.assert_array_equal(params["x"], scale * np.asarray(wanted["x"]))
