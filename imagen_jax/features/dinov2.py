"""DINOv2's vision transformer (arXiv:2304.07193): the features of FD-DINOv2.

    x = [class token, patches W + b] + positions
    per layer:  x = x + s1 attention(LN(x)),   x = x + s2 mlp(LN(x))
    features = LN(x)[0]

with a learned scale s of each channel. The position embeddings were trained for 37 x 37
patches; for the 16 x 16 of a 224 pixel picture they are resized, bicubic without
antialiasing, as the transformers library does. Frechet distances of these features
follow human judgement better than Inception's (arXiv:2306.04675, which takes ViT-L/14).
"""

import dataclasses
import os
from functools import partial
from typing import Any

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
from imagen_jax.features.fetching import folder_sha256
from imagen_jax.text.layers import Params, attention, dense, layer_norm
from imagen_jax.text.parameters import (
    Leaf,
    Tensors,
    check_heads,
    dense_layers,
    one,
    per_layer,
    read_config_keys,
    read_params,
    require,
    select,
)
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights

SIZE = 224
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet, of pictures in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Dinov2Config:
    """The shape of the network, read from its config.json.

    Attributes:
      width: of the hidden states and the features.
      num_layers: at least 1.
      num_heads: must divide `width`.
      mlp_ratio: width inside the feed-forward part over `width`.
      patch_size: in pixels; must divide `input_size`.
      trained_size: side of the pictures that the position embeddings are for.
      norm_eps: added to the variance in LayerNorm.
      input_size: side of the pictures that are described.
    """

    width: int
    num_layers: int
    num_heads: int
    mlp_ratio: int
    patch_size: int
    trained_size: int
    norm_eps: float
    input_size: int = SIZE


_KEYS = {
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "trained_size": "image_size",
    "norm_eps": "layer_norm_eps",
}
_REQUIRED = {
    "model_type": "dinov2",
    "hidden_act": "gelu",
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "num_channels": 3,
}


def open_dinov2(weights: str | None, mesh: Mesh) -> Extractor:
    """Returns the network of a checkpoint.

    Args:
      weights: a folder with config.json and weights of the transformers library, or a
        repository of the Hugging Face hub, e.g. "facebook/dinov2-large".
      mesh: splits batches.

    Raises:
      UserError: it is not given, cannot be had, or is another network.
    """
    if weights is None:
        raise UserError(
            "DINOv2 needs a checkpoint; give --weights=FOLDER or "
            "--weights=facebook/dinov2-large"
        )
    folder = find_weights(weights, ("config.json",))
    if not folder.is_dir():
        raise UserError(
            f"{folder} is a file; give the folder with config.json and the weights"
        )
    config = read_config(folder / "config.json")
    params = params_from_tensors(open_weights(folder).tensors, config)
    size = f"width {config.width}, {config.num_layers} layers"
    # ViT-L/14 is what the name stands for in publications.
    is_large = (config.width, config.num_layers, config.patch_size) == (1024, 24, 14)
    other = "" if is_large else f" ({size})"
    return Extractor(
        name=f"FD-DINOv2{other}",
        kernel_name=f"KD-DINOv2{other}",
        identity={
            "name": f"dinov2, {size}, patches of {config.patch_size}",
            "weights_sha256": folder_sha256(folder),
            "input_size": config.input_size,
            "resize": resize.NAME,
            "scaling": "(x / 255 - mean) / std of ImageNet",
        },
        width=config.width,
        prepare=partial(prepare, size=config.input_size),
        extract=sharded_extract(partial(_features, config=config), params, mesh),
        multiple=batch_multiple(mesh),
    )


def read_config(path: str | os.PathLike) -> Dinov2Config:
    """Returns the shape described by a config.json of the transformers library.

    Raises:
      UserError: if a key is missing or describes a network that differs from this.
    """
    keys = read_config_keys(path)
    require(path, keys, _REQUIRED)
    config = Dinov2Config(**_integers(path, select(path, keys, _KEYS)))
    check_heads(path, config.width, config.num_heads)
    for name, pixels in (
        ("image_size", config.trained_size),
        ("the input size", config.input_size),
    ):
        if pixels % config.patch_size:
            raise UserError(
                f"{path}: patch_size is {config.patch_size}, {name} {pixels}; patches "
                "must divide the picture"
            )
    return config


def prepare(
    picture: UInt8[np.ndarray, "h w 3"], size: int = SIZE
) -> Float[np.ndarray, "{size} {size} 3"]:
    """Returns what the network takes: mean 0 and deviation 1 on ImageNet."""
    scaled = resize.resize(picture, size) / np.float32(255)
    return (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


def params_from_tensors(tensors: Tensors, config: Dinov2Config) -> Params:
    """Returns the parameters; positions are resized to the pictures' patches.

    Args:
      tensors: by the names of published Dinov2Model checkpoints.
      config: the shape to expect.

    Raises:
      UserError: naming all tensors that are missing or not as `config` says.
    """
    return read_params(tensors, _leaves(config))


def describe(
    params: Params, x: Float[Array, "b s s 3"], config: Dinov2Config
) -> Float[Array, "b d"]:
    """Returns the normed state of the class token.

    Args:
      params: from `params_from_tensors`.
      x: from `prepare`.
      config: static under jit.
    """
    b, eps = len(x), config.norm_eps
    side, patch = config.input_size // config.patch_size, config.patch_size
    x = x.reshape(b, side, patch, side, patch, 3).swapaxes(2, 3)
    tokens = dense(x.reshape(b, side * side, -1), params["patches"])  # b n-1 d
    first = jnp.broadcast_to(params["class_token"], (b, 1, config.width))
    x = jnp.concatenate([first, tokens], axis=1) + params["positions"]  # b n d
    visible = jnp.ones((1, 1, x.shape[1]), bool)
    scale = (config.width // config.num_heads) ** -0.5

    def layer(
        x: Float[Array, "b n d"], p: Params
    ) -> tuple[Float[Array, "b n d"], None]:
        h = layer_norm(x, p["attention_norm"], eps)
        h = attention(h, visible, p["attention"], config.num_heads, scale)
        x = x + p["attention_scale"] * h
        h = dense(layer_norm(x, p["mlp_norm"], eps), p["mlp_in"])  # b n mlp_width
        h = dense(jax.nn.gelu(h, approximate=False), p["mlp_out"])
        return x + p["mlp_scale"] * h, None

    x, _ = jax.lax.scan(layer, x, params["layers"])
    return layer_norm(x[:, :1], params["norm"], eps)[:, 0]


def resize_positions(
    positions: Float[np.ndarray, "1 n d"], side: int
) -> Float[np.ndarray, "m d"]:
    """Returns the embeddings of the class token and of side x side patches.

    Args:
      positions: of the class token and of a square of patches, row by row.
      side: patches along a side of the new square.
    """
    old = round((positions.shape[1] - 1) ** 0.5)
    first, grid = positions[0, :1], positions[0, 1:]
    if old == side:
        return positions[0]
    weights = _bicubic(old, side)
    grid = np.einsum(
        "yi,xj,ijd->yxd", weights, weights, grid.reshape(old, old, -1), optimize=True
    )
    resized = grid.reshape(side * side, -1).astype(positions.dtype)
    return np.concatenate([first, resized])


def _bicubic(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Returns the weights of torch's bicubic resize of a line, edges repeated.

    Keys' kernel with a = -0.75, at the distances of pixel centres; not widened where
    the line gets shorter.
    """
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        x = np.abs(first + tap - centre)
        near = (1.25 * x - 2.25) * x**2 + 1
        far = -0.75 * (((x - 5) * x + 8) * x - 4)
        at = np.clip(first + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), at), np.where(x <= 1, near, far))
    return weights


def _features(
    params: Params, x: Float[Array, "b s s 3"], config: Dinov2Config
) -> Features:
    return Features(describe(params, x, config), None)


def _integers(path: str | os.PathLike, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values; all but the last key's must be positive integers."""
    wrong = [
        f"{_KEYS[name]} is {value!r}"
        for name, value in values.items()
        if name != "norm_eps" and (type(value) is not int or value < 1)
    ]
    if wrong:
        raise UserError(f"{path}: {', '.join(wrong)}; give whole numbers from 1 on")
    return values


def _leaves(config: Dinov2Config) -> list[Leaf]:
    """Returns where every parameter comes from."""
    d, p, layers = config.width, config.patch_size, config.num_layers
    num_trained = 1 + (config.trained_size // p) ** 2
    side, inside = config.input_size // p, d * config.mlp_ratio
    patches = "embeddings.patch_embeddings.projection"

    def patch_kernel(kernel: np.ndarray) -> np.ndarray:  # d 3 p p -> p*p*3 d
        return kernel.transpose(2, 3, 1, 0).reshape(-1, d)

    leaves = [
        one("class_token", "embeddings.cls_token", 1, 1, d),
        one(
            "positions",
            "embeddings.position_embeddings",
            *(1, num_trained, d),
            convert=partial(resize_positions, side=side),
        ),
        one("patches/kernel", f"{patches}.weight", d, 3, p, p, convert=patch_kernel),
        one("patches/bias", f"{patches}.bias", d),
        one("norm/scale", "layernorm.weight", d),
        one("norm/bias", "layernorm.bias", d),
    ]
    layer = "encoder.layer.{i}"
    for ours, theirs in (
        ("query", "attention.query"),
        ("key", "attention.key"),
        ("value", "attention.value"),
        ("out", "output.dense"),
    ):
        name = f"{layer}.attention.{theirs}"
        leaves += dense_layers(f"attention/{ours}", name, layers, d, d)
    leaves += dense_layers("mlp_in", f"{layer}.mlp.fc1", layers, d, inside)
    leaves += dense_layers("mlp_out", f"{layer}.mlp.fc2", layers, inside, d)
    for ours, norm, scale in (("attention", "1", "1"), ("mlp", "2", "2")):
        leaves += [
            per_layer(f"{ours}_norm/scale", f"{layer}.norm{norm}.weight", layers, d),
            per_layer(f"{ours}_norm/bias", f"{layer}.norm{norm}.bias", layers, d),
            per_layer(
                f"{ours}_scale", f"{layer}.layer_scale{scale}.lambda1", layers, d
            ),
        ]
    return leaves
