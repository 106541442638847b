"""CLIP (arXiv:2103.00020): pictures and texts as unit vectors of one space.

    picture   x = LN([class token, patches W] + positions);  v = LN(layers(x)[0]) P
    text      x = tokens + positions;            t = LN(layers(x)[end of text]) Q

with the layers of `imagen_jax.text.clip` in both towers: all see all in a picture, a
token sees those before it. What is compared is the cosine of v and t. The sizes
(ViT-B/32, B/16, L/14) are read from the checkpoint.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.features.clip_config import (
    ClipConfig,
    ImageConfig,
    Preparation,
    read_config,
    read_preparation,
)
from imagen_jax.features.extractor import batch_multiple
from imagen_jax.features.fetching import folder_sha256
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import batch_sharding, replicated
from imagen_jax.text import clip as text_tower
from imagen_jax.text.layers import Params, dense, layer_norm
from imagen_jax.text.parameters import (
    Leaf,
    one,
    read_params,
)
from imagen_jax.text.tokenizer import Tokenizer, WithinVocabulary, load_tokenizer
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights


class Clip(NamedTuple):
    """A CLIP with its weights.

    Attributes:
      identity: name, sha256 of its files, input size; for manifests.
      prepare: uint8 [h w 3] -> float32 [s s 3].
      embed_pictures: float32 [b s s 3] -> unit vectors [b e]; b a multiple of
        `multiple`.
      embed_texts: texts -> unit vectors [b e]; those that are too long are cut.
      num_truncated: how many texts have been cut so far.
      multiple: into how many parts a batch is split.
    """

    identity: dict[str, Any]
    prepare: Callable[[np.ndarray], np.ndarray]
    embed_pictures: Callable[[np.ndarray], np.ndarray]
    embed_texts: Callable[[Sequence[str]], np.ndarray]
    num_truncated: Callable[[], int]
    multiple: int


def open_clip(weights: str, mesh: Mesh | None = None) -> Clip:
    """Returns a CLIP.

    Args:
      weights: a folder with config.json, weights and tokenizer of the transformers
        library, or a repository of the Hugging Face hub, such as
        "openai/clip-vit-base-patch32".
      mesh: splits batches of pictures; None means all devices.

    Raises:
      UserError: it cannot be had, or is another network.
    """
    mesh = make_mesh() if mesh is None else mesh
    folder = find_weights(weights)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is a file; give the folder with config.json, the weights and "
            "the tokenizer of a whole CLIP"
        )
    config = read_config(folder / "config.json")
    preparation = read_preparation(folder, config.image.input_size)
    params = read_params(open_weights(folder).tensors, _leaves(config))
    tokenizer = WithinVocabulary(
        load_tokenizer("clip", folder, config.text.max_positions),
        config.text.vocab_size,
    )
    whole, split = replicated(mesh), batch_sharding(mesh)
    placed = jax.device_put(params, whole)
    picture_fn = jax.jit(
        partial(embed_pictures, config=config),
        in_shardings=(whole, split),
        out_shardings=whole,
    )
    text_fn = jax.jit(partial(embed_texts, config=config))

    def of_pictures(batch: np.ndarray) -> np.ndarray:
        array = jax.make_array_from_callback(batch.shape, split, batch.__getitem__)
        return np.asarray(picture_fn(placed, array))

    def of_texts(texts: Sequence[str]) -> np.ndarray:
        return np.asarray(text_fn(placed, *_tokens(tokenizer, texts)))

    image = config.image
    return Clip(
        identity={
            "name": f"CLIP ViT, width {image.width}, {image.num_layers} layers, "
            f"patches of {image.patch_size}",
            "weights": Path(weights).name,
            "weights_sha256": folder_sha256(folder),
            "tokenizer": tokenizer.id,
            "input_size": preparation.size,
        },
        prepare=partial(prepare, preparation=preparation),
        embed_pictures=of_pictures,
        embed_texts=of_texts,
        num_truncated=lambda: tokenizer.num_truncated,
        multiple=batch_multiple(mesh),
    )


def prepare(
    picture: UInt8[np.ndarray, "h w 3"], preparation: Preparation
) -> Float[np.ndarray, "s s 3"]:
    """Returns what the picture tower takes.

    The shorter side is resized by Pillow's bicubic filter, rounded to bytes, and the
    centre cut out, as CLIP's own code does.
    """
    size = preparation.size
    height, width = picture.shape[:2]
    short = min(height, width)
    new = (int(size * width / short), int(size * height / short))
    image = Image.fromarray(picture).resize(new, Image.Resampling.BICUBIC)
    left, top = (new[0] - size) // 2, (new[1] - size) // 2
    square = np.asarray(image.crop((left, top, left + size, top + size)), np.float32)
    mean, std = (np.array(v, np.float32) for v in preparation[1:])
    return (square / np.float32(255) - mean) / std


def embed_pictures(
    params: Params, x: Float[Array, "b s s 3"], config: ClipConfig
) -> Float[Array, "b e"]:
    """Returns v above, of length 1.

    Args:
      params: both towers'.
      x: from `prepare`.
      config: static under jit.
    """
    p, image, b = params["image"], config.image, len(x)
    side, patch = image.input_size // image.patch_size, image.patch_size
    x = x.reshape(b, side, patch, side, patch, 3).swapaxes(2, 3)
    tokens = dense(x.reshape(b, side * side, -1), p["patches"])  # b n-1 d
    first = jnp.broadcast_to(p["class_token"], (b, 1, image.width))
    x = jnp.concatenate([first, tokens], axis=1) + p["positions"]  # b n d
    x = layer_norm(x, p["norm_before"], image.norm_eps)
    visible = jnp.ones((1, 1, x.shape[1]), bool)
    shape = (image.num_heads, image.activation, image.norm_eps)
    x = text_tower.run_layers(p["layers"], x, visible, *shape)
    x = layer_norm(x[:, :1], p["norm_after"], image.norm_eps)
    return _unit(dense(x, p["projection"])[:, 0])


def embed_texts(
    params: Params,
    ids: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
    config: ClipConfig,
) -> Float[Array, "b e"]:
    """Returns t above, of length 1.

    Args:
      params: both towers'.
      ids: tokens from start to end of text.
      mask: True up to and including the end of text, at least one in each row.
      config: static under jit.
    """
    p, text = params["text"], config.text
    x = text_tower.hidden_states(p, ids, mask, text)
    last = mask.sum(axis=1) - 1
    x = jnp.take_along_axis(x, last[:, None, None], axis=1)  # b 1 d
    x = layer_norm(x, p["norm_after"], text.norm_eps)
    return _unit(dense(x, p["projection"])[:, 0])


def _unit(x: Float[Array, "b e"]) -> Float[Array, "b e"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _tokens(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[Int[np.ndarray, "b n"], Bool[np.ndarray, "b n"]]:
    if empty := [i for i, text in enumerate(texts) if not text.strip()]:
        raise UserError(
            f"text {empty[0] + 1} of {len(texts)} is empty; a CLIP score needs a text "
            "for each picture"
        )
    tokens = tokenizer(texts)
    return np.asarray(tokens.ids), np.asarray(tokens.mask)


def _leaves(config: ClipConfig) -> list[Leaf]:
    """Returns where every parameter of both towers comes from."""
    image, text, e = config.image, config.text, config.width
    towers = {
        "image": [
            *_image_leaves(image),
            *_ends("vision_model.post_layernorm", "visual_projection", image.width, e),
        ],
        "text": [
            *text_tower.text_leaves("text_model.", text, text.num_layers),
            *_ends("text_model.final_layer_norm", "text_projection", text.width, e),
        ],
    }
    return [
        leaf._replace(path=f"{tower}/{leaf.path}")
        for tower, leaves in towers.items()
        for leaf in leaves
    ]


def _image_leaves(image: ImageConfig) -> list[Leaf]:
    d, p, prefix = image.width, image.patch_size, "vision_model."
    num_tokens = 1 + (image.input_size // p) ** 2

    def patch_kernel(kernel: np.ndarray) -> np.ndarray:  # d 3 p p -> p*p*3 d
        return kernel.transpose(2, 3, 1, 0).reshape(-1, d)

    embeddings = f"{prefix}embeddings"
    patches = f"{embeddings}.patch_embedding.weight"
    positions = f"{embeddings}.position_embedding.weight"
    layer = f"{prefix}encoder.layers.{{i}}"
    return [
        one("class_token", f"{embeddings}.class_embedding", d),
        one("positions", positions, num_tokens, d),
        one("patches/kernel", patches, d, 3, p, p, convert=patch_kernel),
        # The misspelt name is that of the transformers library.
        *_norm("norm_before", f"{prefix}pre_layrnorm", d),
        *text_tower.layer_leaves(layer, image.num_layers, d, image.mlp_width),
    ]


def _ends(norm: str, projection: str, d: int, e: int) -> list[Leaf]:
    kernel = one(
        "projection/kernel", f"{projection}.weight", e, d, convert=np.transpose
    )
    return [*_norm("norm_after", norm, d), kernel]


def _norm(path: str, name: str, d: int) -> list[Leaf]:
    return [
        one(f"{path}/scale", f"{name}.weight", d),
        one(f"{path}/bias", f"{name}.bias", d),
    ]
