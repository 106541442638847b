import json
import sys
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text.parameters import (
    Leaf,
    dense_layers,
    one,
    per_layer,
    read_config_keys,
    read_params,
    require,
    select,
)

TABLE = [
    one("word", "embedding", 7, 4),
    *dense_layers("mlp", "layer.{i}.mlp", 3, 4, 5),
    per_layer("norm/scale", "layer.{i}.norm", 3, 4),
    Leaf("layers/scanned", ("scanned",), (2, 3), np.transpose),
]


def make_tensors(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"embedding": (7, 4), "scanned": (2, 3), "another.model": (1,)}
    for i in range(3):
        shapes[f"layer.{i}.mlp.weight"] = (5, 4)
        shapes[f"layer.{i}.mlp.bias"] = (5,)
        shapes[f"layer.{i}.norm"] = (4,)
    return {
        name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()
    }


def test_layers_are_stacked_and_kernels_transposed():
    tensors = make_tensors()
    params = read_params(tensors, TABLE)
    assert params.keys() == {"word", "layers"}
    assert params["layers"].keys() == {"mlp", "norm", "scanned"}
    np.testing.assert_array_equal(params["word"], tensors["embedding"])
    kernel, bias = params["layers"]["mlp"]["kernel"], params["layers"]["mlp"]["bias"]
    assert (kernel.shape, bias.shape) == ((3, 4, 5), (3, 5))
    for i in range(3):
        np.testing.assert_array_equal(kernel[i], tensors[f"layer.{i}.mlp.weight"].T)
        np.testing.assert_array_equal(bias[i], tensors[f"layer.{i}.mlp.bias"])
    np.testing.assert_array_equal(params["layers"]["scanned"], tensors["scanned"].T)


def test_one_layer_is_stacked_too():
    params = read_params(make_tensors(), [per_layer("scale", "layer.{i}.norm", 1, 4)])
    assert params["layers"]["scale"].shape == (1, 4)


def test_place_gets_each_path_once_and_its_result_is_kept():
    seen = {}

    def place(path, leaf):
        assert leaf.flags.c_contiguous
        seen[path] = leaf.shape
        return jax.numpy.full((), len(seen))

    params = read_params(make_tensors(), TABLE, place)
    assert seen == {
        "word": (7, 4),
        "layers/mlp/kernel": (3, 4, 5),
        "layers/mlp/bias": (3, 5),
        "layers/norm/scale": (3, 4),
        "layers/scanned": (3, 2),
    }
    assert params["layers"]["mlp"]["bias"] == 3


class OneAtATime(dict):
    """Tensors read from "disk": fails if one is read while an older one is alive."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.last = lambda: None
        self.num_read = 0

    def __getitem__(self, name):
        tensor = super().__getitem__(name).copy()
        reader = sys._getframe(1).f_code.co_filename
        if reader.endswith("parameters.py"):  # the tests' type checker reads some too
            assert self.last() is None, f"{name} is read while another tensor is alive"
            self.last = weakref.ref(tensor)
            self.num_read += 1
        return tensor


def test_one_leaf_and_one_tensor_are_in_memory_at_a_time():
    """Mutation: stack with np.stack of a list, or hold the last leaf in a variable."""
    leaves = []

    def place(path, leaf):
        assert all(earlier() is None for earlier in leaves), f"{path} is not alone"
        leaves.append(weakref.ref(leaf))
        return jax.numpy.asarray(leaf.sum())

    tensors = OneAtATime(make_tensors())
    read_params(tensors, TABLE, place)
    assert len(leaves) == 5
    assert tensors.num_read == 11


def test_all_faults_are_named_at_once():
    tensors = make_tensors()
    del tensors["embedding"], tensors["layer.1.norm"]
    tensors["layer.0.mlp.weight"] = tensors["layer.0.mlp.weight"].T
    tensors["layer.2.mlp.weight"] = tensors["layer.2.mlp.weight"][:4]
    tensors["scanned"] = tensors["scanned"].astype(np.int8)
    with pytest.raises(UserError) as raised:
        read_params(tensors, TABLE)
    assert str(raised.value) == (
        "the weights do not fit the encoder: there is no tensor embedding; tensor "
        "layer.0.mlp.weight has the shape (4, 5), expected (5, 4); tensor "
        "layer.2.mlp.weight has the shape (4, 4), expected (5, 4); there is no tensor "
        "layer.1.norm; tensor scanned is int8, expected floating point; give the "
        "weights and the config.json of one model"
    )


def test_nothing_is_placed_after_a_fault():
    tensors = make_tensors() | {"layer.0.mlp.weight": np.zeros((1, 1), np.float32)}
    placed = []
    with pytest.raises(UserError):
        read_params(tensors, TABLE, lambda path, leaf: placed.append(path))
    assert placed == ["word"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_types_are_kept(dtype):
    params = read_params(make_tensors(dtype), TABLE)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(dtype)}


@pytest.mark.parametrize("first", [ml_dtypes.bfloat16, np.float32])
def test_layers_of_two_types_lose_no_digits(first):
    tensors = make_tensors()
    tensors["layer.0.norm"] = tensors["layer.0.norm"].astype(first)
    tensors["layer.1.norm"] = tensors["layer.1.norm"].astype(np.float16)
    scale = read_params(tensors, TABLE)["layers"]["norm"]["scale"]
    assert scale.dtype == np.float32
    for i in range(3):
        np.testing.assert_array_equal(
            scale[i], tensors[f"layer.{i}.norm"].astype(np.float32)
        )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read"),
        (b"{", "is not JSON"),
        (b"\xff{}", "is not JSON"),
        (b"[1]", "is not a JSON object"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_sentence(tmp_path, content, text):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=text):
        read_config_keys(path)


def test_config_keys_are_selected_under_our_names(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 8, "n": 1}))
    keys = read_config_keys(tmp_path / "config.json")
    assert select("config.json", keys, {"width": "d_model"}) == {"width": 8}
    with pytest.raises(UserError, match=r"config\.json has no key d_ff, d_kv; give"):
        select("config.json", keys, {"a": "d_ff", "b": "d_kv", "c": "n"})


def test_other_networks_are_refused_by_all_their_keys():
    keys = {"act": "relu", "eps": 1e-6, "bias": True}
    require("config.json", keys, {"act": "relu", "left_out": 5})
    with pytest.raises(UserError, match=r"act is 'relu'.* 'gelu' only, bias is True"):
        require("config.json", keys, {"act": "gelu", "eps": 1e-6, "bias": False})
