"""What a picture follows from, down to the last bit, and whether it can be had here."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from imagen_jax.config import StageConfig
from imagen_jax.config_file import to_dict
from imagen_jax.errors import UserError
from imagen_jax.version import __version__

ENCODER = "text"  # its place among the stages of `Recipe.model`


class Recipe(NamedTuple):
    """All that a picture follows from.

    Attributes:
      prompt: "" is the null text.
      negative: "" is the null text.
      second: blended with the prompt; "" for none.
      blend: share of the second.
      seed: of the noise.
      stage: whose picture it is.
      samplers: the sampler's settings by stage.
      edit: of another picture, see `editing.describe_editing`, or how one was enlarged;
        {} for plain sampling.
      model: by stage, hash of its config and which weights; "text" is the encoder.
      batch_size: pictures in the call; sums are rounded differently in another.
      row: its place among them.
      devices: the mesh, such as "8x1x1 cpu".
      versions: of this package and of JAX.
    """

    prompt: str
    negative: str
    second: str
    blend: float
    seed: int
    stage: str
    samplers: dict[str, dict[str, Any]]
    edit: dict[str, Any]
    model: dict[str, dict[str, Any]]
    batch_size: int
    row: int
    devices: str
    versions: dict[str, str]


_KINDS = {
    "prompt": str,
    "negative": str,
    "second": str,
    "blend": float,
    "seed": int,
    "stage": str,
    "samplers": dict,
    "edit": dict,
    "model": dict,
    "batch_size": int,
    "row": int,
    "devices": str,
    "versions": dict,
}


def read_recipe(text: str, path: Path) -> Recipe:
    """Returns the recipe that a JSON text holds.

    Args:
      text: from a PNG.
      path: of the PNG, for the message.

    Raises:
      UserError: it is not one.
    """
    try:
        fields = json.loads(text)
        fits = fields.keys() == _KINDS.keys() and all(
            type(fields[name]) is kind for name, kind in _KINDS.items()
        )
        counts = ("seed", "row", "batch_size")
        fits = fits and all(0 <= fields[name] < 2**32 for name in counts)
        fits = fits and fields["row"] < fields["batch_size"]
        for name in ("samplers", "model", "versions") if fits else ():
            values = fields[name].values()
            kind = str if name == "versions" else dict
            fits = fits and all(type(value) is kind for value in values)
    except (ValueError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise UserError(
            f"the text of {path} is not a recipe that this version can read; draw the "
            "picture by its prompt and seed"
        )
    return Recipe(**fields)


def check_recipe(
    recipe: Recipe,
    model: Mapping[str, Mapping[str, Any]],
    mesh: Mesh,
    say: Callable[[str], None],
) -> None:
    """Refuses a picture that another model drew, and says what may change rounding.

    Args:
      recipe: of the picture.
      model: what is here, as in a recipe.
      mesh: what would draw it.
      say: called with a sentence.

    Raises:
      UserError: naming the stages that differ; or it is an edit.
    """
    if recipe.edit:
        raise UserError(
            "the picture was made by an edit or enlarged, and what it was made from is "
            "not in it; run `python -m imagen_jax.edit` or `imagen_jax.upscale` again"
        )
    if differing := sorted(
        name
        for name in model.keys() | recipe.model.keys()
        if model.get(name) != recipe.model.get(name)
    ):
        raise UserError(
            f"the picture was drawn by another model: {', '.join(differing)} differ; "
            "give the bundle or workdirs that drew it"
        )
    if lacking := sorted(model.keys() - recipe.samplers.keys() - {ENCODER}):
        raise UserError(
            f"the picture's text has no settings of {', '.join(lacking)}; draw it by "
            "its prompt and seed"
        )
    for name, here in (("devices", devices_of(mesh)), ("versions", versions())):
        if (there := getattr(recipe, name)) != here:
            say(
                f"the picture was drawn with the {name} {there}, here are {here}: it "
                "may differ by rounding"
            )


def devices_of(mesh: Mesh) -> str:
    """Returns a mesh in words: devices along each axis, and which, "8x1x1 cpu"."""
    shape = "x".join(map(str, mesh.devices.shape))
    return f"{shape} {mesh.devices.flat[0].device_kind}"


def config_sha256(config: StageConfig) -> str:
    """Returns the hash of a stage's settings, hexadecimal."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions that a picture's rounding depends on."""
    return {
        "imagen_jax": __version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
    }
