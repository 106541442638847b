"""Files that torch itself writes, read without it; torch is the oracle."""

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.weights.torch_pickle import open_torch

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.oracle

CONTAINERS = pytest.mark.parametrize("zipped", [True, False])
NUMPY_TYPE = {"bfloat16": ml_dtypes.bfloat16, "bool": np.bool_}
TYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()


def save_and_open(tmp_path, state, zipped):
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return open_torch(path)


def bytes_of(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@CONTAINERS
@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_bit_equal(tmp_path, zipped, name):
    numbers = 50 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    if name == "bool":
        numbers = numbers > 0
    elif name == "uint8":
        numbers = numbers.abs()
    tensor = numbers.to(getattr(torch, name))
    array = save_and_open(tmp_path, {"a": tensor}, zipped)["a"]
    assert array.dtype == NUMPY_TYPE.get(name, name)
    assert array.shape == (3, 5)
    assert array.tobytes() == bytes_of(tensor)


@CONTAINERS
def test_every_view_is_bit_equal(tmp_path, zipped):
    whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = {
        "whole": whole,
        "transposed": whole.permute(2, 0, 1),
        "sliced": whole[1, ::2, 1:3],
        "expanded": whole[0, 0, :1].expand(3, 2),
        "scalar": whole[1, 2, 3],
        "empty": whole[:, :0],
        "parameter": torch.nn.Parameter(whole + 1),
        "buffer": torch.arange(4).expand((1, -1)),
    }
    tensors = save_and_open(tmp_path, state, zipped)
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert tensors[name].shape == tuple(tensor.shape)
        assert tensors[name].flags.c_contiguous
        assert tensors[name].tobytes() == bytes_of(tensor)


@CONTAINERS
def test_reads_a_modules_state(tmp_path, zipped):
    """With its hidden `_metadata`, tied weights and buffers."""
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3)
    )
    module[2].weight = module[0].weight
    state = module.state_dict()
    tensors = save_and_open(tmp_path, state, zipped)
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert tensors[name].tobytes() == bytes_of(tensor)


@CONTAINERS
def test_a_whole_module_is_refused(tmp_path, zipped):
    with pytest.raises(UserError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        save_and_open(tmp_path, torch.nn.Linear(2, 2), zipped)
