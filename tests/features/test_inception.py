"""Inception's port against pytorch-fid's own network, with random weights carried over.

And the Frechet distance against pytorch-fid's, in the same process of torch.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.features import inception
from imagen_jax.features.layers import average_pool
from imagen_jax.features.opening import open_extractor
from imagen_jax.metrics.frechet import frechet_distance
from imagen_jax.metrics.moments import Gaussian
from imagen_jax.weights.torch_pickle import open_torch

from .networks import random_pictures, random_tensors

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".cache" / "oracle_wheels"
PYTORCH_FID = "pytorch_fid-0.3.0-py3-none-any.whl"
PYTORCH_FID_SHA256 = "0e1d4fe66441a8dff2a2aca31394e9389fb197dfeff046f2f971f271d4137767"
TORCHVISION = "0.28.0"  # belongs to torch 2.13, see setup.py


def fetch_wheels():
    """Downloads what is compared with, once; nothing of it is installed."""
    name = WHEELS / PYTORCH_FID
    if not name.is_file() or not list(WHEELS.glob(f"torchvision-{TORCHVISION}*")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(WHEELS)]
        command += ["pytorch-fid==0.3.0", f"torchvision=={TORCHVISION}"]
        subprocess.run(command, check=True)
    assert hashlib.sha256(name.read_bytes()).hexdigest() == PYTORCH_FID_SHA256
    return WHEELS


def random_gaussian(rng, width, count):
    rows = rng.standard_normal((count, width)) @ rng.standard_normal((width, width))
    rows += rng.standard_normal(width)
    return Gaussian(rows.mean(axis=0), np.cov(rows, rowvar=False), count)


@pytest.mark.oracle
@pytest.mark.slow
def test_network_and_distance_equal_pytorch_fid(tmp_path):
    rng = np.random.default_rng(0)
    # The last pair has fewer rows than features, hence singular covariances.
    pairs = [
        [random_gaussian(rng, width, count) for _ in range(2)]
        for width, count in ((8, 50), (64, 500), (32, 20))
    ]
    arrays = {
        f"{name}_{i}": array
        for i, (a, b) in enumerate(pairs)
        for name, array in zip(("m1", "c1", "m2", "c2"), (*a[:2], *b[:2]), strict=True)
    }
    pictures = random_pictures(2, 299, 299)
    arrays |= {"pictures": pictures, "num_pairs": np.array(len(pairs))}
    np.savez(tmp_path / "in.npz", allow_pickle=False, **arrays)
    weights = random_tensors(inception._leaves())
    weights["fc.bias"] = np.ones(inception.NUM_CLASSES, np.float32)
    np.savez(tmp_path / "weights.npz", allow_pickle=False, **weights)
    script = Path(__file__).with_name("pytorch_fid_oracle.py")
    files = ("weights.npz", "in.npz", "weights.pth", "out.npz")
    command = [sys.executable, script, fetch_wheels(), *(tmp_path / f for f in files)]
    subprocess.run([str(part) for part in command], check=True)

    expected = np.load(tmp_path / "out.npz")
    params = inception.params_from_tensors(open_torch(tmp_path / "weights.pth"))
    x = np.stack([inception.prepare(picture) for picture in pictures])
    found = jax.jit(inception.features)(params, x)
    assert 0.1 < expected["features"].std() < 10
    np.testing.assert_allclose(found.pooled, expected["features"], rtol=0, atol=1e-4)
    logits = expected["features"] @ weights["fc.weight"].T  # without the bias
    np.testing.assert_allclose(
        found.log_probs, jax.nn.log_softmax(logits), rtol=0, atol=1e-3
    )
    distances = [frechet_distance(a, b) for a, b in pairs]
    np.testing.assert_allclose(distances, expected["distances"], rtol=1e-5)


def test_average_does_not_count_padding():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    found = average_pool(x)[0, :, :, 0]
    np.testing.assert_allclose(found[0, 0], (1 + 2 + 4 + 5) / 4)
    np.testing.assert_allclose(found[1, 0], (1 + 2 + 4 + 5 + 7 + 8) / 6)
    np.testing.assert_allclose(found[1, 1], 5)


def test_scales_to_minus_one_and_one():
    black_white = np.zeros((10, 20, 3), np.uint8)
    black_white[:, 10:] = 255
    x = inception.prepare(black_white)
    assert x.shape == (299, 299, 3)
    assert x.dtype == np.float32
    np.testing.assert_allclose([x[0, 0], x[0, -1]], [[-1] * 3, [1] * 3])


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (None, "Inception needs its weights; fetch https://.*6726825d.pth and give"),
        ("gone.pth", "no weights file gone.pth"),
        ("https://host/file.pth", "has no checksum; give https.*#sha256=HEX"),
        ("https://host/file.pth#sha256=12", "'12', which is no sha256"),
    ],
)
def test_weights_that_cannot_be_had(weights, text):
    with pytest.raises(UserError, match=text):
        open_extractor("inception", weights)


def test_weights_of_another_network(tmp_path):
    from safetensors.numpy import save_file

    tensors = {"fc.weight": np.zeros((1000, 2048), np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"fc.weight.*\(1000, 2048\).*no tensor Conv"):
        open_extractor("inception", str(tmp_path / "model.safetensors"))


def test_unknown_features():
    with pytest.raises(UserError, match="no features 'vgg'; choose inception, "):
        open_extractor("vgg")
