"""Inception-v3 of 2015 as FID defines it: 2048 features of a 299 x 299 picture.

The network is TensorFlow's graph inception-2015-12-05, in the weights that pytorch-fid
ports. It differs from the Inception-v3 of libraries for training (arXiv:1512.00567):

- average pools do not count what is padded;
- the last block's pool is a maximum;
- it has 1008 classes, of which 1000 are used.

Pictures are scaled as x / 127.5 - 1. The class probabilities of an Inception score are
the softmax of features times weights *without* the bias, as in the score's first code.

Blocks have torchvision's names, which are those of the weights; letters are its too:

    5b 5c 5d  A   35 x 35     1x1 | 5x5 | 3x3 3x3 | pool
    6a        B   to 17 x 17  3x3 | 3x3 3x3 | pool
    6b to 6e  C   17 x 17     1x1 | 1x7 7x1 | 7x1 1x7 7x1 1x7 | pool
    7a        D   to 8 x 8    3x3 | 1x7 7x1 3x3 | pool
    7b 7c     E   8 x 8       1x1 | (1x3, 3x1) | 3x3 (1x3, 3x1) | pool
"""

from functools import partial

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
from imagen_jax.features.layers import (
    Padding,
    average_pool,
    convolution_leaves,
    convolve,
    max_pool,
    normalize,
)
from imagen_jax.text.layers import Params
from imagen_jax.text.parameters import Leaf, Tensors, one, read_params
from imagen_jax.weights.safetensors import open_safetensors
from imagen_jax.weights.torch_pickle import open_torch

SIZE = 299
WIDTH = 2048
NUM_CLASSES = 1008
EPS = 1e-3

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
"""pytorch-fid's file; the digits are the beginning of its sha256."""
URL = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"
)

_STEM = {
    "Conv2d_1a_3x3": (3, 3, 3, 32),
    "Conv2d_2a_3x3": (3, 3, 32, 32),
    "Conv2d_2b_3x3": (3, 3, 32, 64),
    "Conv2d_3b_1x1": (1, 1, 64, 80),
    "Conv2d_4a_3x3": (3, 3, 80, 192),
}


def open_inception(weights: str | None, mesh: Mesh) -> Extractor:
    """Returns the network with the weights of a file.

    Args:
      weights: of pytorch-fid, .pth or .safetensors with its names; see
        `imagen_jax.features.fetching`.
      mesh: splits batches.

    Raises:
      UserError: the weights are not given, cannot be had, or do not fit.
    """
    if weights is None:
        raise UserError(
            f"Inception needs its weights; fetch {URL} and give --weights=FILE, or "
            "give --weights=URL#sha256=HEX"
        )
    file = find_file(weights)
    is_safe = file.path.suffix == ".safetensors"
    tensors = open_safetensors(file.path) if is_safe else open_torch(file.path)
    is_published = file.sha256.startswith(PUBLISHED.split("-")[-1].removesuffix(".pth"))
    # The name stands for comparability, so other weights must not carry it.
    other = "" if is_published else "-like (Inception-v3, not the published weights)"
    return Extractor(
        name=f"FID{other}",
        kernel_name=f"KID{other}",
        identity={
            "name": "inception-2015-12-05",
            "weights_sha256": file.sha256,
            "input_size": SIZE,
            "resize": resize.NAME,
            "scaling": "x / 127.5 - 1",
        },
        width=WIDTH,
        prepare=prepare,
        extract=sharded_extract(features, params_from_tensors(tensors), mesh),
        multiple=batch_multiple(mesh),
    )


def prepare(
    picture: UInt8[np.ndarray, "h w 3"],
) -> Float[np.ndarray, "299 299 3"]:
    """Returns what the network takes, in [-1, 1]."""
    return resize.resize(picture, SIZE) / np.float32(127.5) - 1


def params_from_tensors(tensors: Tensors) -> Params:
    """Returns the parameters.

    Args:
      tensors: by the names of torchvision's Inception3, without its auxiliary part.

    Raises:
      UserError: naming all tensors that are missing or of another shape.
    """
    return read_params(tensors, _leaves())


def features(params: Params, x: Float[Array, "b 299 299 3"]) -> Features:
    """Returns 2048 features and the logarithms of 1008 class probabilities.

    Args:
      params: from `params_from_tensors`.
      x: in [-1, 1].
    """
    conv = partial(_conv, params)
    x = conv("Conv2d_1a_3x3", x, stride=2, padding="VALID")  # b 149 149 32
    x = conv("Conv2d_2a_3x3", x, padding="VALID")  # b 147 147 32
    x = conv("Conv2d_2b_3x3", x)
    x = max_pool(x, 2, "VALID")  # b 73 73 64
    x = conv("Conv2d_3b_1x1", x)
    x = conv("Conv2d_4a_3x3", x, padding="VALID")  # b 71 71 192
    x = max_pool(x, 2, "VALID")  # b 35 35 192
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _block_a(params[name], x)  # b 35 35 288
    x = _block_b(params["Mixed_6a"], x)  # b 17 17 768
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _block_c(params[name], x)
    x = _block_d(params["Mixed_7a"], x)  # b 8 8 1280
    x = _block_e(params["Mixed_7b"], x, average_pool(x))  # b 8 8 2048
    x = _block_e(params["Mixed_7c"], x, max_pool(x, 1, "SAME"))
    pooled = x.mean(axis=(1, 2))
    logits = jnp.dot(pooled, params["fc"], precision=jax.lax.Precision.HIGHEST)
    return Features(pooled, jax.nn.log_softmax(logits))


def _conv(
    params: Params,
    name: str,
    x: Float[Array, "b h w i"],
    stride: int = 1,
    padding: Padding = "SAME",
) -> Float[Array, "b h2 w2 o"]:
    p = params[name]
    return jax.nn.relu(normalize(convolve(x, p["kernel"], stride, padding), p, EPS))


def _chain(
    params: Params, names: str, x: Float[Array, "b h w i"]
) -> Float[Array, "b h w o"]:
    """Returns `x` through some convolutions, one after the other, its size kept."""
    for name in names.split():
        x = _conv(params, name, x)
    return x


def _join(*parts: Float[Array, "b h w _"]) -> Float[Array, "b h w c"]:
    return jnp.concatenate(parts, axis=-1)


def _block_a(p: Params, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
    return _join(
        _conv(p, "branch1x1", x),
        _chain(p, "branch5x5_1 branch5x5_2", x),
        _chain(p, "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", x),
        _conv(p, "branch_pool", average_pool(x)),
    )


def _block_b(p: Params, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    double = _chain(p, "branch3x3dbl_1 branch3x3dbl_2", x)
    return _join(
        _conv(p, "branch3x3", x, 2, "VALID"),
        _conv(p, "branch3x3dbl_3", double, 2, "VALID"),
        max_pool(x, 2, "VALID"),
    )


def _block_c(p: Params, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
    double = " ".join(f"branch7x7dbl_{i}" for i in range(1, 6))
    return _join(
        _conv(p, "branch1x1", x),
        _chain(p, "branch7x7_1 branch7x7_2 branch7x7_3", x),
        _chain(p, double, x),
        _conv(p, "branch_pool", average_pool(x)),
    )


def _block_d(p: Params, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    long = _chain(p, "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3", x)
    return _join(
        _conv(p, "branch3x3_2", _conv(p, "branch3x3_1", x), 2, "VALID"),
        _conv(p, "branch7x7x3_4", long, 2, "VALID"),
        max_pool(x, 2, "VALID"),
    )


def _block_e(
    p: Params, x: Float[Array, "b h w i"], pooled: Float[Array, "b h w i"]
) -> Float[Array, "b h w o"]:
    single = _conv(p, "branch3x3_1", x)
    double = _chain(p, "branch3x3dbl_1 branch3x3dbl_2", x)
    return _join(
        _conv(p, "branch1x1", x),
        _conv(p, "branch3x3_2a", single),
        _conv(p, "branch3x3_2b", single),
        _conv(p, "branch3x3dbl_3a", double),
        _conv(p, "branch3x3dbl_3b", double),
        _conv(p, "branch_pool", pooled),
    )


def _leaves() -> list[Leaf]:
    """Returns where every parameter comes from."""
    shapes = dict(_STEM)
    blocks = [
        *((f"Mixed_5{n}", _shapes_a(i, o)) for n, i, o in _A),
        ("Mixed_6a", _shapes_b()),
        *((f"Mixed_6{n}", _shapes_c(c)) for n, c in _C),
        ("Mixed_7a", _shapes_d()),
        *((f"Mixed_7{n}", _shapes_e(i)) for n, i in _E),
    ]
    for block, parts in blocks:
        shapes |= {f"{block}/{part}": shape for part, shape in parts.items()}
    leaves = [one("fc", "fc.weight", NUM_CLASSES, WIDTH, convert=np.transpose)]
    for path, shape in shapes.items():
        name = path.replace("/", ".")
        leaves += convolution_leaves(path, f"{name}.conv", f"{name}.bn", shape)
    return leaves


_A = (("b", 192, 32), ("c", 256, 64), ("d", 288, 64))  # name, in, of the pool
_C = (("b", 128), ("c", 160), ("d", 160), ("e", 192))  # name, inside
_E = (("b", 1280), ("c", 2048))  # name, in
_Shapes = dict[str, tuple[int, int, int, int]]


def _shapes_a(fan_in: int, pool: int) -> _Shapes:
    return {
        "branch1x1": (1, 1, fan_in, 64),
        "branch5x5_1": (1, 1, fan_in, 48),
        "branch5x5_2": (5, 5, 48, 64),
        "branch3x3dbl_1": (1, 1, fan_in, 64),
        "branch3x3dbl_2": (3, 3, 64, 96),
        "branch3x3dbl_3": (3, 3, 96, 96),
        "branch_pool": (1, 1, fan_in, pool),
    }


def _shapes_b() -> _Shapes:
    return {
        "branch3x3": (3, 3, 288, 384),
        "branch3x3dbl_1": (1, 1, 288, 64),
        "branch3x3dbl_2": (3, 3, 64, 96),
        "branch3x3dbl_3": (3, 3, 96, 96),
    }


def _shapes_c(inside: int) -> _Shapes:
    return {
        "branch1x1": (1, 1, 768, 192),
        "branch7x7_1": (1, 1, 768, inside),
        "branch7x7_2": (1, 7, inside, inside),
        "branch7x7_3": (7, 1, inside, 192),
        "branch7x7dbl_1": (1, 1, 768, inside),
        "branch7x7dbl_2": (7, 1, inside, inside),
        "branch7x7dbl_3": (1, 7, inside, inside),
        "branch7x7dbl_4": (7, 1, inside, inside),
        "branch7x7dbl_5": (1, 7, inside, 192),
        "branch_pool": (1, 1, 768, 192),
    }


def _shapes_d() -> _Shapes:
    return {
        "branch3x3_1": (1, 1, 768, 192),
        "branch3x3_2": (3, 3, 192, 320),
        "branch7x7x3_1": (1, 1, 768, 192),
        "branch7x7x3_2": (1, 7, 192, 192),
        "branch7x7x3_3": (7, 1, 192, 192),
        "branch7x7x3_4": (3, 3, 192, 192),
    }


def _shapes_e(fan_in: int) -> _Shapes:
    return {
        "branch1x1": (1, 1, fan_in, 320),
        "branch3x3_1": (1, 1, fan_in, 384),
        "branch3x3_2a": (1, 3, 384, 384),
        "branch3x3_2b": (3, 1, 384, 384),
        "branch3x3dbl_1": (1, 1, fan_in, 448),
        "branch3x3dbl_2": (3, 3, 448, 384),
        "branch3x3dbl_3a": (1, 3, 384, 384),
        "branch3x3dbl_3b": (3, 1, 384, 384),
        "branch_pool": (1, 1, fan_in, 192),
    }
