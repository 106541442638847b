"""What the files of a CLIP say of its shape, and of what is done to pictures."""

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

from imagen_jax.errors import UserError
from imagen_jax.text import clip as text_tower
from imagen_jax.text.parameters import check_heads, read_config_keys, select


@dataclasses.dataclass(frozen=True)
class ImageConfig:
    """The shape of the picture tower, read from config.json.

    Attributes:
      width: of the hidden states.
      num_layers: at least 1.
      num_heads: must divide `width`.
      mlp_width: width inside the feed-forward part.
      patch_size: in pixels; must divide `input_size`.
      input_size: side of the pictures.
      activation: of `text_tower.ACTIVATIONS`.
      norm_eps: added to the variance in LayerNorm.
    """

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    patch_size: int
    input_size: int
    activation: str
    norm_eps: float


class ClipConfig(NamedTuple):
    """Both towers; the text's is whole here, its last layer included."""

    image: ImageConfig
    text: text_tower.ClipConfig
    width: int  # of the space that both are projected to


class Preparation(NamedTuple):
    """What is done to a picture, as preprocessor_config.json has it."""

    size: int  # of the shorter side, and of the square cut from the centre
    mean: tuple[float, ...]
    std: tuple[float, ...]


_KEYS = {
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "patch_size": "patch_size",
    "input_size": "image_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
}
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def read_config(path: str | os.PathLike) -> ClipConfig:
    """Returns the shape described by the config.json of a transformers CLIPModel.

    Raises:
      UserError: a key is missing, or it is no whole CLIP.
    """
    keys = read_config_keys(path)
    vision = keys.get("vision_config")
    if not isinstance(vision, dict) or not isinstance(keys.get("text_config"), dict):
        raise UserError(
            f"{path} has no vision_config and text_config; give a whole CLIP such as "
            "openai/clip-vit-base-patch32"
        )
    image = ImageConfig(**select(path, vision, _KEYS))
    check_heads(path, image.width, image.num_heads)
    if image.input_size % image.patch_size:
        raise UserError(
            f"{path}: patch_size is {image.patch_size}, image_size "
            f"{image.input_size}; patches must divide the picture"
        )
    if image.activation not in text_tower.ACTIVATIONS:
        raise UserError(
            f"{path}: hidden_act is {image.activation!r}; this CLIP has "
            f"{' and '.join(text_tower.ACTIVATIONS)} only"
        )
    width = select(path, keys, {"width": "projection_dim"})["width"]
    return ClipConfig(image, text_tower.read_config(path), width)


def read_preparation(folder: Path, input_size: int) -> Preparation:
    """Returns what a checkpoint's preprocessor_config.json asks for.

    Without that file it is what all of OpenAI's have, at the network's size.

    Raises:
      UserError: the file asks for another size than the network takes, or for a step
        that is not done here.
    """
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return Preparation(input_size, _MEAN, _STD)
    try:
        keys = json.loads(path.read_text("utf-8"))
        size, crop = keys.get("size", input_size), keys.get("crop_size", input_size)
        size = size.get("shortest_edge") if isinstance(size, dict) else size
        crop = crop.get("height") if isinstance(crop, dict) else crop
        steps = [keys.get(f"do_{step}", True) for step in ("resize", "center_crop")]
        mean = tuple(map(float, keys.get("image_mean", _MEAN)))
        std = tuple(map(float, keys.get("image_std", _STD)))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it anew") from error
    is_bicubic = keys.get("resample", 3) == 3
    if size != input_size or crop != input_size or not all(steps) or not is_bicubic:
        raise UserError(
            f"{path}: the shorter side becomes {size} and the crop {crop} pixels, the "
            f"network takes {input_size}; only a bicubic resize to it and a crop of "
            "the centre are done here"
        )
    return Preparation(input_size, mean, std)
