import json

import numpy as np
import pytest
import safetensors.numpy

from imagen_jax.errors import UserError
from imagen_jax.weights.folder import open_weights
from tests.weights.t5x_fixture import t5_arrays, write_t5x
from tests.weights.torch_fixture import state, storage, tensor, write_zip

TENSORS = {f"layer.{i}": np.full((2, 3), i, np.float32) for i in range(5)}
SHARDS = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]


def write_shards(folder):
    shard_of = {name: SHARDS[i % 3] for i, name in enumerate(TENSORS)}
    for shard in SHARDS:
        held = {name: TENSORS[name] for name in TENSORS if shard_of[name] == shard}
        safetensors.numpy.save_file(held, folder / shard)
    write_index(folder / "model.safetensors.index.json", shard_of)


def write_index(path, shard_of):
    path.write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))


def write_torch(path, value, name="a"):
    pickled = state(**{name: tensor(storage("0", 2), (2,), (1,))})
    write_zip(path, pickled, {"0": np.full(2, value, np.float32).tobytes()})


def assert_holds(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array)


@pytest.mark.parametrize("give", ["folder", "file"])
def test_opens_one_file(tmp_path, give):
    file = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, file)
    weights = open_weights(tmp_path if give == "folder" else file)
    assert (weights.format, weights.folder) == ("transformers", tmp_path)
    assert_holds(weights.tensors, TENSORS)


def test_opens_shards(tmp_path):
    write_shards(tmp_path)
    weights = open_weights(tmp_path)
    assert (weights.format, weights.folder) == ("transformers", tmp_path)
    assert_holds(weights.tensors, TENSORS)


def test_opens_torch_shards(tmp_path):
    shard_of = {
        "a": "pytorch_model-00001-of-2.bin",
        "b": "pytorch_model-00002-of-2.bin",
    }
    for value, (name, shard) in enumerate(shard_of.items()):
        write_torch(tmp_path / shard, value, name)
    write_index(tmp_path / "pytorch_model.bin.index.json", shard_of)
    expected = {"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)}
    assert_holds(open_weights(tmp_path).tensors, expected)


@pytest.mark.parametrize("give", ["checkpoint", "parent"])
def test_opens_t5x(tmp_path, give):
    checkpoint = tmp_path / "checkpoint_1000000"
    write_t5x(checkpoint, t5_arrays())
    weights = open_weights(checkpoint if give == "checkpoint" else tmp_path)
    assert (weights.format, weights.folder) == ("t5x", checkpoint)
    assert_holds(weights.tensors, t5_arrays())


def test_takes_safetensors_before_a_pickle(tmp_path):
    write_torch(tmp_path / "pytorch_model.bin", 3)
    assert_holds(open_weights(tmp_path).tensors, {"a": np.full(2, 3, np.float32)})
    write_shards(tmp_path)
    assert open_weights(tmp_path).tensors.keys() == TENSORS.keys()


def test_names_all_missing_shards(tmp_path):
    write_shards(tmp_path)
    for shard in SHARDS[:2]:
        (tmp_path / shard).unlink()
    with pytest.raises(UserError) as refusal:
        open_weights(tmp_path)
    assert "lacks 2 of the 3 files" in str(refusal.value)
    assert f"{SHARDS[0]}, {SHARDS[1]};" in str(refusal.value)


def test_refuses_half_a_shard(tmp_path):
    write_shards(tmp_path)
    shard = tmp_path / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(UserError, match=rf"{SHARDS[1]} is not a complete"):
        open_weights(tmp_path)


def test_names_all_tensors_that_a_shard_lacks(tmp_path):
    write_shards(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    shard_of = json.loads(index.read_text())["weight_map"]
    write_index(index, shard_of | {"one": SHARDS[0], "two": SHARDS[2]})
    with pytest.raises(UserError) as refusal:
        open_weights(tmp_path)
    assert f"one ({SHARDS[0]}), two ({SHARDS[2]});" in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": ["model.safetensors"]}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model.safetensors"}}',
    ],
)
def test_refuses_a_malformed_index(tmp_path, text):
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "model.safetensors")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match="not an index of weights"):
        open_weights(folder)


def test_refuses_a_choice_of_checkpoints(tmp_path):
    for step in (1000, 2000):
        write_t5x(tmp_path / f"checkpoint_{step}", {"a": np.ones(2)})
    with pytest.raises(UserError, match="checkpoint_1000, checkpoint_2000; give one"):
        open_weights(tmp_path)


@pytest.mark.parametrize("make", [False, True])
def test_says_what_it_looked_for(tmp_path, make):
    folder = tmp_path / "weights"
    if make:
        folder.mkdir()
        (folder / "flax_model.msgpack").touch()
    with pytest.raises(UserError) as refusal:
        open_weights(folder)
    message = str(refusal.value)
    assert ("has no weights" if make else "does not exist") in message
    for name in (
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "checkpoint_STEP",
    ):
        assert name in message


def test_refuses_a_file_of_another_kind(tmp_path):
    file = tmp_path / "tf_model.h5"
    file.touch()
    with pytest.raises(UserError, match=r"give a \.safetensors or \.bin file"):
        open_weights(file)
