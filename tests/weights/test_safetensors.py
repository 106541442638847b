import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from imagen_jax.errors import UserError
from imagen_jax.weights.safetensors import open_safetensors, read_safetensors

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.half": np.array([0.5, -3.0], ml_dtypes.bfloat16),
    "ids": np.array([[1, 2]], np.int64),
    "flags": np.array([True, False, True]),
    "scalar": np.array(7, np.float64),
    "empty": np.zeros((0, 4), np.float16),
}


def write_raw(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("read", [open_safetensors, read_safetensors])
def test_gives_back_names_types_and_values(tmp_path, read):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, path, metadata={"format": "np"})
    tensors = read(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert tensors[name].tobytes() == tensor.tobytes()


def test_reads_the_same_as_the_reference_reader(tmp_path):
    path = tmp_path / "model.safetensors"
    numbers = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    safetensors.numpy.save_file({"x": numbers, "y": numbers.T.copy()}, path)
    reference = safetensors.numpy.load_file(path)
    for name, tensor in read_safetensors(path).items():
        np.testing.assert_array_equal(tensor, reference[name])


def test_reads_a_tensor_only_when_it_is_asked_for(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.ones(4, np.float32)}, path)
    tensors = open_safetensors(path)
    first = tensors["a"]
    first[:] = 5  # the caller's own: neither the file nor the next reading
    np.testing.assert_array_equal(tensors["a"], np.ones(4, np.float32))
    path.unlink()
    assert list(tensors) == ["a"]
    assert "a" in tensors
    assert "b" not in tensors
    assert len(tensors) == 1
    with pytest.raises(UserError, match="cannot be read"):
        tensors["a"]


def test_notices_a_file_that_was_cut_off_after_opening(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.ones(4, np.float32)}, path)
    tensors = open_safetensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="ends before a tensor"):
        tensors["a"]


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no weights file"):
        read_safetensors(tmp_path / "model.safetensors")


@pytest.mark.parametrize("num_bytes", [0, 5, 60, 200, -1])
def test_refuses_half_a_file(tmp_path, num_bytes):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        open_safetensors(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {  # both tensors claim the same bytes
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        },
    ],
)
def test_refuses_a_malformed_header(tmp_path, header):
    path = tmp_path / "model.safetensors"
    write_raw(path, header, bytes(8))
    with pytest.raises(UserError, match="not a complete safetensors file"):
        open_safetensors(path)


def test_names_a_type_that_it_does_not_know(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}
    write_raw(path, header, bytes(1))
    with pytest.raises(UserError, match=r"the tensor a has the type F4; .*BF16"):
        open_safetensors(path)
