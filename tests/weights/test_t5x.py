import json

import ml_dtypes
import msgpack
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.weights.t5x import open_t5x
from tests.weights.t5x_fixture import T5Shape, t5_arrays, write_t5x


def edit(folder, change):
    """Applies `change` to the tree in the file `checkpoint`."""
    file = folder / "checkpoint"
    tree = msgpack.unpackb(file.read_bytes(), strict_map_key=False)
    change(tree)
    file.write_bytes(msgpack.packb(tree))


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_gives_back_names_types_and_values(tmp_path, scanned, inline, version, dtype):
    arrays = {
        name: array.astype(dtype) for name, array in t5_arrays(scanned=scanned).items()
    }
    write_t5x(tmp_path, arrays, version=version, inline=inline)
    tensors = open_t5x(tmp_path)
    assert tensors.keys() == arrays.keys()  # not the optimiser's
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        assert tensors[name].shape == array.shape
        assert tensors[name].tobytes() == array.tobytes()


def test_reads_uint16_of_version_3_as_it_is(tmp_path):
    numbers = np.arange(5, dtype=np.uint16)
    write_t5x(tmp_path, {"a": numbers}, version=3)
    assert open_t5x(tmp_path)["a"].dtype == np.uint16


def test_writes_one_network_under_both_names():
    """The fixture itself: what the text tests compare is the same network."""
    shape = T5Shape(num_layers=2)
    plain = t5_arrays(shape)
    arrays = t5_arrays(shape, scanned=True)
    query = arrays["encoder/encoder/attention/query/kernel"]
    out = arrays["encoder/encoder/attention/out/kernel"]
    for i in range(2):
        layer = f"encoder/layers_{i}/attention"
        np.testing.assert_array_equal(
            query[:, i].reshape(shape.width, -1), plain[f"{layer}/query/kernel"]
        )
        np.testing.assert_array_equal(
            out[:, i].reshape(-1, shape.width), plain[f"{layer}/out/kernel"]
        )


def test_reads_the_oldest_specs(tmp_path):
    """Whose path stands at the top of the spec, not within its kvstore."""
    arrays = t5_arrays()
    write_t5x(tmp_path, arrays)

    def move_path(tree):
        spec = tree["optimizer"]["target"]["token_embedder"]["embedding"]
        spec["path"] = spec["kvstore"].pop("path")

    edit(tmp_path, move_path)
    name = "token_embedder/embedding"
    np.testing.assert_array_equal(open_t5x(tmp_path)[name], arrays[name])


def test_can_be_moved(tmp_path):
    arrays = t5_arrays()
    write_t5x(tmp_path / "written_here", arrays)
    (tmp_path / "written_here").rename(tmp_path / "moved_here")
    tensors = open_t5x(tmp_path / "moved_here")
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_names_all_folders_that_are_missing(tmp_path):
    write_t5x(tmp_path, t5_arrays())
    for name in ("encoder.encoder_norm.scale", "token_embedder.embedding"):
        (tmp_path / f"target.{name}").rename(tmp_path / f"away.{name}")
    with pytest.raises(UserError) as refusal:
        open_t5x(tmp_path)
    assert "lacks 2 of its folders" in str(refusal.value)
    assert "target.encoder.encoder_norm.scale" in str(refusal.value)
    assert "target.token_embedder.embedding" in str(refusal.value)


@pytest.mark.parametrize("damage", ["missing", "cut off", "no numbers"])
def test_refuses_a_damaged_chunk(tmp_path, damage):
    write_t5x(tmp_path, t5_arrays())
    folder = tmp_path / "target.token_embedder.embedding"
    chunk = folder / "1.0"
    match damage:
        case "missing":  # must not come out as zeros
            chunk.unlink()
        case "cut off":
            chunk.write_bytes(chunk.read_bytes()[:-9])
        case "no numbers":
            header = json.loads((folder / ".zarray").read_text())
            (folder / ".zarray").write_text(json.dumps(header | {"dtype": "what"}))
    tensors = open_t5x(tmp_path)
    with pytest.raises(UserError, match="not a complete zarr array"):
        tensors["token_embedder/embedding"]


@pytest.mark.parametrize("num_bytes", [0, 100, -1])
def test_refuses_half_a_file(tmp_path, num_bytes):
    write_t5x(tmp_path, t5_arrays(), inline=True)
    file = tmp_path / "checkpoint"
    file.write_bytes(file.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match="not a complete T5X checkpoint"):
        open_t5x(tmp_path)


@pytest.mark.parametrize(
    "packed", [b"junk", msgpack.packb([[4], "float32", b"12"]), msgpack.packb(7)]
)
def test_names_a_damaged_array_of_the_file(tmp_path, packed):
    write_t5x(tmp_path, {"a": np.ones(4, np.float32)}, inline=True)
    leaf = msgpack.ExtType(1, packed)
    edit(tmp_path, lambda tree: tree["optimizer"]["target"].update(a=leaf))
    with pytest.raises(UserError, match="the array a is damaged"):
        open_t5x(tmp_path)["a"]


@pytest.mark.parametrize("version", [0, 1, 4])
def test_refuses_other_versions(tmp_path, version):
    write_t5x(tmp_path, t5_arrays())
    edit(tmp_path, lambda tree: tree.update(version=version))
    with pytest.raises(UserError, match=f"version {version}; .* 2 and 3"):
        open_t5x(tmp_path)


@pytest.mark.parametrize(
    "leaf",
    [
        "PLACEHOLDER://encoder",  # as orbax writes
        {"driver": "zarr", "metadata": {}, "kvstore": {}},
        {"driver": "zarr", "metadata": {}, "kvstore": {"path": "../elsewhere"}},
        {"driver": "n5", "metadata": {}, "kvstore": {"path": "target.a"}},
    ],
)
def test_refuses_leaves_of_another_kind(tmp_path, leaf):
    write_t5x(tmp_path, t5_arrays())
    edit(tmp_path, lambda tree: tree["optimizer"]["target"].update(a=leaf))
    with pytest.raises(UserError, match="a is neither an array nor the spec"):
        open_t5x(tmp_path)


def test_refuses_a_tree_without_parameters(tmp_path):
    write_t5x(tmp_path, t5_arrays())
    edit(tmp_path, lambda tree: tree["optimizer"].pop("target"))
    with pytest.raises(UserError, match="no optimizer/target"):
        open_t5x(tmp_path)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="checkpoint cannot be read"):
        open_t5x(tmp_path)
