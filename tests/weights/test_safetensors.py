import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from imagen_jax.errors import UserError
from imagen_jax.weights.safetensors import read_safetensors


def test_gives_back_names_types_and_values(tmp_path):
    tensors = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.half": np.array([0.5, -3.0], ml_dtypes.bfloat16),
        "ids": np.array([[1, 2]], np.int64),
        "scalar": np.array(7, np.float32),
    }
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    read = read_safetensors(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no weights file"):
        read_safetensors(tmp_path / "model.safetensors")


def test_refuses_half_a_file(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        read_safetensors(path)


def test_names_the_extra_when_the_package_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"imagen_jax\[quickstart\]"):
        read_safetensors(tmp_path / "model.safetensors")
