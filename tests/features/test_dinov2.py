"""DINOv2 against the transformers library, with small random weights."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from imagen_jax.errors import UserError
from imagen_jax.features import dinov2
from imagen_jax.features.opening import open_extractor
from imagen_jax.weights.folder import open_weights

from .networks import random_pictures, random_tensors

CONFIG = dinov2.Dinov2Config(
    width=16,
    num_layers=2,
    num_heads=2,
    mlp_ratio=3,
    patch_size=14,
    trained_size=70,
    norm_eps=1e-6,
)
KEYS = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 3,
    "patch_size": 14,
    "image_size": 70,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
}


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("trained_size", [70, 224, 518])
def test_equals_transformers(tmp_path, trained_size):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    keys = KEYS | {"image_size": trained_size}
    model = transformers.Dinov2Model(transformers.Dinov2Config(**keys)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        is_scale = name.endswith("lambda1") or (
            "norm" in name and name.endswith("weight")
        )
        parameter.data.copy_(1 + 0.3 * values if is_scale else 0.3 * values)
    model.save_pretrained(tmp_path)
    config = dinov2.read_config(tmp_path / "config.json")
    params = dinov2.params_from_tensors(open_weights(tmp_path).tensors, config)
    x = np.stack([dinov2.prepare(picture) for picture in random_pictures(2, 50, 70)])
    with torch.no_grad():
        expected = model(torch.from_numpy(x).permute(0, 3, 1, 2)).pooler_output
    found = jax.jit(partial(dinov2.describe, config=config))(params, x)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


def test_opens_a_folder_and_names_the_size(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(KEYS))
    tensors = random_tensors(dinov2._leaves(CONFIG))
    save_file(tensors, tmp_path / "model.safetensors")
    extractor = open_extractor("dinov2", str(tmp_path))
    # Not ViT-L/14, so it does not carry that name alone.
    assert extractor.name == "FD-DINOv2 (width 16, 2 layers)"
    x = np.stack([extractor.prepare(p) for p in random_pictures(8, 30, 40)])
    assert x.shape == (8, 224, 224, 3)
    found = extractor.extract(x)
    assert found.pooled.shape == (8, extractor.width) == (8, 16)
    spoilt = dict(tensors)
    del spoilt["layernorm.bias"]
    save_file(spoilt, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"no tensor layernorm\.bias"):
        open_extractor("dinov2", str(tmp_path))


def test_positions_of_the_same_size_are_kept():
    positions = np.random.default_rng(0).standard_normal((1, 26, 3))
    np.testing.assert_array_equal(dinov2.resize_positions(positions, 5), positions[0])
    constant = dinov2.resize_positions(np.ones((1, 26, 3)), 3)
    np.testing.assert_allclose(constant, np.ones((10, 3)), rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True"),
        ({"model_type": "vit"}, "model_type is 'vit'"),
        ({"num_attention_heads": 3}, "heads must divide the width"),
        ({"patch_size": 15, "image_size": 75}, "the input size 224"),
        ({"image_size": [70, 70]}, "image_size is .70, 70"),
        ({"mlp_ratio": None}, "no key mlp_ratio"),
    ],
)
def test_refuses_another_network(tmp_path, changes, text):
    keys = {k: v for k, v in (KEYS | changes).items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with pytest.raises(UserError, match=text):
        open_extractor("dinov2", str(tmp_path))


@pytest.mark.parametrize(
    ("weights", "text"),
    [(None, "DINOv2 needs a checkpoint"), ("no folder", "neither a file or folder")],
)
def test_needs_a_checkpoint(weights, text):
    with pytest.raises(UserError, match=text):
        open_extractor("dinov2", weights)
