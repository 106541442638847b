import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint._src.path import atomicity

from imagen_jax.checkpoint import (
    Checkpoints,
    PartWriter,
    restore_ema_params,
    restore_parts,
)
from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh


def state_on(spec, *sizes, scale=1):
    mesh = make_mesh(MeshConfig(*sizes))
    values = scale * np.arange(64, dtype=np.float32).reshape(8, 8)
    return {"x": jax.device_put(values, NamedSharding(mesh, spec))}


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def write(folder, steps, newest=3, every=0, best=False):
    """Saves a state per step; `steps` may give held-out losses."""
    losses = steps if isinstance(steps, dict) else dict.fromkeys(steps)
    checkpoints = Checkpoints(folder, newest, every, best)
    for step, loss in losses.items():
        state = state_on(PartitionSpec("fsdp"), 1, 8, scale=step)
        checkpoints.save(step, {"ema_params": {"0.9": state}, **state}, loss)
    checkpoints.close()


def names(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_another_mesh_takes_the_newest_up_bitwise(tmp_path):
    write(tmp_path, (1, 2))
    wanted = state_on(PartitionSpec("data", "fsdp"), 2, 4, scale=2)
    wanted = {"ema_params": {"0.9": wanted}, **wanted}
    checkpoints = Checkpoints(tmp_path)
    restored = checkpoints.restore(abstract(wanted))
    checkpoints.close()
    assert restored["x"].sharding == wanted["x"].sharding
    np.testing.assert_array_equal(restored["x"], wanted["x"])


def test_the_newest_are_kept(tmp_path):
    write(tmp_path, (3, 6, 9), newest=2)
    assert names(tmp_path) == [6, 9]


def test_those_of_the_period_are_kept_for_ever(tmp_path):
    write(tmp_path, range(3, 31, 3), newest=1, every=6)
    assert names(tmp_path) == [6, 12, 18, 24, 30]
    write(tmp_path, (33,), newest=1, every=6)
    assert names(tmp_path) == [6, 12, 18, 24, 30, 33]


def test_the_best_is_kept_and_still_known_after_a_resume(tmp_path):
    nan = float("nan")
    write(tmp_path, {1: 0.5, 2: 0.2, 3: 0.4, 4: nan, 5: None}, newest=1, best=True)
    assert names(tmp_path) == [2, 5]
    write(tmp_path, {6: 0.3, 7: 0.4}, newest=1, best=True)
    assert names(tmp_path) == [2, 7]
    write(tmp_path, {8: 0.1, 9: 0.4}, newest=1, best=True)
    assert names(tmp_path) == [8, 9]


def test_a_resume_takes_the_newest_not_the_best(tmp_path):
    write(tmp_path, {1: 0.1, 2: 0.9}, newest=1, best=True)
    checkpoints = Checkpoints(tmp_path, 1, 0, True)
    assert checkpoints.latest_step() == 2
    checkpoints.close()


@pytest.mark.parametrize(("choice", "step"), [(None, 3), ("best", 2), (1, 1)])
def test_averaged_parameters_of_the_chosen_checkpoint(tmp_path, choice, step):
    write(tmp_path, {1: 0.5, 2: 0.2, 3: 0.4}, best=True)
    wanted = state_on(PartitionSpec(), scale=step)
    params = restore_ema_params(tmp_path, "0.9", abstract(wanted), choice)
    np.testing.assert_array_equal(params["x"], wanted["x"])


def test_averaged_parameters_of_a_checkpoint_that_is_not_there(tmp_path):
    like = abstract(state_on(PartitionSpec()))
    with pytest.raises(UserError, match="has no checkpoints; train it first"):
        restore_ema_params(tmp_path, "0.9", like)
    write(tmp_path, (1, 2))
    with pytest.raises(UserError, match="no checkpoint of step 7; it has those of 1, "):
        restore_ema_params(tmp_path, "0.9", like, 7)
    with pytest.raises(UserError, match=r"no checkpoint .* has a held-out loss"):
        restore_ema_params(tmp_path, "0.9", like, "best")


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
    assert names(tmp_path) == [3, 6]
    assert not (tmp_path / "checkpoints" / "6" / "half").exists()


def test_a_state_of_other_shapes_is_refused(tmp_path):
    write(tmp_path, (1,))
    checkpoints = Checkpoints(tmp_path)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with pytest.raises(UserError, match="another model or optimizer"):
        checkpoints.restore({"x": jax.ShapeDtypeStruct((9,), "f4", sharding=device)})
    checkpoints.close()


def replaced(path):
    path.unlink()
    path.mkdir()


def unlinked(path):
    path.unlink()
    path.symlink_to("gone")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def odd(path):
    path.write_text('{"array_metadatas": [{}]}')


UNREADABLE = {  # files of a checkpoint's state, what was done to one, the cause
    "a folder": ("_METADATA", replaced, "Is a directory"),
    "a link to nothing": ("array_metadatas/process_0", unlinked, "No such file"),
    "no values": ("ocdbt.process_0/d/*", Path.unlink, "Error reading"),
    "cut JSON": ("_METADATA", cut, "line 1 column"),
    "odd JSON": ("array_metadatas/process_0", odd, "has no attribute"),
    "cut index": ("manifest.ocdbt", cut, "Error reading"),
    "cut values": ("ocdbt.process_0/d/*", cut, "Error reading"),
}


@pytest.mark.parametrize("how", ["run", "average"])
@pytest.mark.parametrize("damage", UNREADABLE)
def test_a_checkpoint_that_cannot_be_read_is_one_sentence(tmp_path, damage, how):
    """Values have a file of their own only where they are many, as in any real run."""
    values = np.random.default_rng(0).standard_normal((64, 64)).astype("f4")
    state = {"ema_params": {"0.9": {"x": jax.numpy.asarray(values)}}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state)
    checkpoints.wait()
    pattern, act, cause = UNREADABLE[damage]
    files = (tmp_path / "checkpoints" / "1" / "state").glob(pattern)
    act(max(files, key=lambda path: path.stat().st_size))
    wanted = rf"checkpoints/1 cannot be read; copy it anew, .*{cause}"
    like = abstract(state)
    read = {
        "run": lambda: checkpoints.restore(like),
        "average": lambda: restore_ema_params(
            tmp_path, "0.9", like["ema_params"]["0.9"]
        ),
    }
    with pytest.raises(UserError, match=wanted):
        read[how]()
    checkpoints.close()


def test_a_part_is_read_back_by_another_mesh_bitwise(tmp_path, caplog):
    writer = PartWriter()
    writer.start(tmp_path / "7", state_on(PartitionSpec("fsdp"), 1, 8, scale=7))
    writer.wait()
    writer.close()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == []
    # A file per piece: parts of several processes are laid over one another.
    assert not list(tmp_path.rglob("*ocdbt*"))
    wanted = state_on(PartitionSpec("data", "fsdp"), 2, 4, scale=7)
    restored = restore_parts(tmp_path / "7", abstract(wanted), "gs://b/7")
    assert restored["x"].sharding == wanted["x"].sharding
    np.testing.assert_array_equal(restored["x"], wanted["x"])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {"x": jax.ShapeDtypeStruct((9,), "f4", sharding=device)}
    with pytest.raises(UserError, match="gs://b/7 is of another model or optimizer"):
        restore_parts(tmp_path / "7", like, "gs://b/7")


def test_a_part_waits_for_no_folder_of_another_process(tmp_path, monkeypatch):
    """Folders made beside the writing are announced by a key that processes share.

    One that finds the key of another writes into a folder that is not there yet.
    """

    def beside(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(atomicity, "create_all_async", beside)
    writer = PartWriter()
    writer.start(tmp_path / "7", state_on(PartitionSpec("fsdp"), 1, 8))
    writer.close()
    assert {path.name for path in (tmp_path / "7").iterdir()} >= {"state", "checksums"}


def changed(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["run", "average", "part"])
def test_changed_values_are_refused(tmp_path, how):
    """The files still decode; without checksums other numbers would be restored."""
    folder = tmp_path / "checkpoints" / "1"
    values = np.random.default_rng(0).standard_normal((64, 64)).astype("f4")
    state = {"ema_params": {"0.9": {"x": jax.numpy.asarray(values)}}}
    like = abstract(state)
    if how == "part":
        writer = PartWriter()
        writer.start(folder, state)
        writer.close()
    else:
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, state)
        checkpoints.close()
    read = {
        "run": lambda: Checkpoints(tmp_path).restore(like),
        "average": lambda: restore_ema_params(
            tmp_path, "0.9", like["ema_params"]["0.9"]
        ),
        "part": lambda: restore_parts(folder, like, "gs://b/checkpoints/1"),
    }[how]
    read()
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    changed(max(files, key=lambda path: path.stat().st_size))
    with pytest.raises(
        UserError, match=r"checkpoints/1 cannot be read; .*ema_params/0\.9/x are not"
    ):
        read()
    shutil.rmtree(folder / "checksums")  # as older versions wrote it
    read()


def test_a_part_of_which_a_piece_is_missing_is_one_sentence(tmp_path):
    writer = PartWriter()
    writer.start(tmp_path / "7", state := state_on(PartitionSpec("fsdp"), 1, 8))
    writer.close()
    (tmp_path / "7" / "state" / "x" / "3.0").unlink()
    with pytest.raises(UserError, match=r"gs://b/7 cannot be read; .*x/3\.0"):
        restore_parts(tmp_path / "7", abstract(state), "gs://b/7")


@pytest.mark.parametrize("how", ["disk", "parts"])
def test_a_step_takes_over_the_memory_of_a_restored_state(tmp_path, how):
    """Else the old and the new state are there at once, in the first step."""
    mesh = make_mesh(MeshConfig(1, 8))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    shapes = [(8 * i, 31 + 32 * (i % 5)) for i in range(1, 41)]
    state = {str(i): np.ones(shape, np.float32) for i, shape in enumerate(shapes)}
    state = jax.device_put(state, sharding)
    if how == "disk":
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, state)
        checkpoints.wait()
        restored = checkpoints.restore(abstract(state))
        checkpoints.close()
    else:
        writer = PartWriter()
        writer.start(tmp_path / "1", state)
        writer.close()
        restored = restore_parts(tmp_path / "1", abstract(state), "1")

    def places(tree):
        return [
            [shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards]
            for leaf in jax.tree.leaves(tree)
        ]

    before = places(restored)
    shardings = jax.tree.map(lambda _: sharding, state)
    step = jax.jit(
        lambda tree: jax.tree.map(lambda x: x + 1, tree),
        donate_argnums=0,
        out_shardings=shardings,
    )
    assert places(step(restored)) == before
