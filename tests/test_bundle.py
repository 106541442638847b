"""Bundles: what is written comes back, and weights of another model do not."""

import hashlib
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from imagen_jax import bundle
from imagen_jax.averages import compare, open_averages, shapes_of
from imagen_jax.bundle import load_stage, write_bundle
from imagen_jax.bundle_folder import WEIGHTS
from imagen_jax.config_file import to_dict
from imagen_jax.errors import UserError
from tests.commands.command import run
from tests.tiny import tiny_stage


def abstract_params(stage):
    return jax.eval_shape(stage.init_params, jax.random.key(0))


@pytest.fixture(scope="module", params=["base", "sr"])
def written(request, tmp_path_factory, fill_params):
    """(folder of a bundle, its stage, the parameters that were written)."""
    stage = tiny_stage(request.param)
    params = fill_params(abstract_params(stage), 3)
    folder = tmp_path_factory.mktemp("bundles") / "inner" / stage.config.name
    write_bundle(stage, params, folder)
    return folder, stage, params


def test_a_bundle_comes_back_rounded_to_bfloat16(written):
    folder, stage, params = written
    loaded_stage, loaded = load_stage(folder)
    assert loaded_stage.config == stage.config
    assert jax.tree.structure(loaded) == jax.tree.structure(params)

    def compare(got, given):
        assert got.dtype == np.float32
        rounded = np.asarray(given).astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(got, rounded)

    jax.tree.map(compare, loaded, params)


def test_a_bundle_is_two_files_of_half_the_parameters_size(written):
    folder, stage, params = written
    assert {path.name for path in folder.iterdir()} == {"config.json", WEIGHTS}
    assert json.loads((folder / "config.json").read_text()) == to_dict(stage.config)
    stored = load_file(folder / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype("bfloat16")}
    assert "stem/kernel" in stored
    assert len(stored) == len(jax.tree.leaves(params))


def test_every_tensor_of_another_model_is_named(written, tmp_path):
    folder, _, _ = written
    tensors = load_file(folder / WEIGHTS)
    del tensors["out/bias"], tensors["stem/kernel"]
    tensors["strange/kernel"] = np.zeros((2, 2), np.float32)
    tensors["out_norm/scale"] = np.ones((9,), np.float32)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(UserError) as error:
        load_stage(tmp_path)
    fault = "of another model than the config.json beside it: "
    assert str(error.value).partition(fault)[2].split("; ") == [
        "out/bias is missing",
        "out_norm/scale is (9,), not (8,)",
        "stem/kernel is missing",
        "strange/kernel is extra",
    ]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_file_is_refused(written, tmp_path, damage):
    folder, _, _ = written
    content = (folder / WEIGHTS).read_bytes()
    damaged = {"cut": content[:-10], "garbage": b"x" * 100, "empty": b""}[damage]
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / WEIGHTS).write_bytes(damaged)
    with pytest.raises(UserError, match="not a complete safetensors file"):
        load_stage(tmp_path)


def test_averages_tell_their_shapes_and_origin_and_read_what_is_asked(written):
    folder, stage, params = written
    averages = open_averages(folder)
    assert averages.config == stage.config
    assert averages.shapes == shapes_of(params)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert averages.origin() == {"weights_sha256": digest}
    device = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    read = averages.read({"stem/kernel": device})
    assert list(read) == ["stem/kernel"]
    assert read["stem/kernel"].devices() == {jax.devices()[3]}


def test_tensors_are_compared_by_name_and_shape():
    found = {"same": (1,), "extra": (2,), "other": (3, 4)}
    comparison = compare(found, {"same": (1,), "missing": (), "other": (4, 3)})
    assert comparison.common == ["same"]
    assert comparison.missing == ["missing"]
    assert comparison.extra == ["extra"]
    assert comparison.reshaped == {"other": ((3, 4), (4, 3))}
    assert comparison.faults() == [
        "extra is extra",
        "missing is missing",
        "other is (3, 4), not (4, 3)",
    ]


def test_folders_without_a_trained_stage_are_refused(written, tmp_path):
    with pytest.raises(UserError, match="give the workdir of a training run"):
        load_stage(tmp_path)
    config = (written[0] / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="has no checkpoints; train it first"):
        load_stage(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no complete checkpoint; train it first"):
        load_stage(tmp_path)


def test_the_command_writes_a_folder_per_stage(written, tmp_path, monkeypatch, capfd):
    folder, stage, _ = written
    out = tmp_path / "new" / "out"
    flags = (f"--workdirs={folder}", f"--out={out}")
    status, said, _ = run(monkeypatch, capfd, bundle, *flags)
    assert status == 0
    assert f"{out}/{stage.config.name}: 0." in said
    for name in ("config.json", WEIGHTS):
        copy = out / stage.config.name / name
        assert copy.read_bytes() == (folder / name).read_bytes()


def test_the_command_does_not_write_into_the_workdir(written, monkeypatch, capfd):
    """Red without the check: the bundle would hide what is trained there later."""
    folder, _, _ = written
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    flags = (f"--workdirs={folder}", f"--out={folder.parent}")
    status, _, err = run(monkeypatch, capfd, bundle, *flags)
    assert status == 2
    assert err[-1].startswith("error: --out=")
    assert "give another --out" in err[-1]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
