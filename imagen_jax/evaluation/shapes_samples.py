"""Sampled pictures of the shapes set, with the scene that each was asked for."""

from pathlib import Path
from typing import NamedTuple

from imagen_jax.data.sources.shapes import Scene, held_out, parse
from imagen_jax.errors import UserError
from imagen_jax.evaluation.captioned import Captioned, read_captioned, read_picture
from imagen_jax.evaluation.shapes_checker import SIDE, Seen, look


class ShapesSample(NamedTuple):
    """A picture: what it shows, and the scene asked for; None for the empty prompt."""

    seen: Seen
    scene: Scene | None


def read_samples(folder: Path) -> tuple[list[ShapesSample], int]:
    """Returns what the last stage's pictures of a folder show, and their side.

    Raises:
      UserError: the folder's list is unusable (see `captioned.read_captioned`), asks
        for something outside the grammar, or names a picture that cannot be checked.
    """
    asked = [(each, _scene(each)) for each in read_captioned(folder)]
    samples, side = [], 0
    for each, scene in asked:
        picture = read_picture(each.file)
        height, width, _ = picture.shape
        if height != width or height % SIDE:
            raise UserError(
                f"{each.file} has {width} x {height} pixels; pictures must be square "
                f"and their side a multiple of {SIDE}"
            )
        if side and height != side:
            raise UserError(
                f"{each.file} has {height} pixels, others have {side}; the pictures of "
                "a stage must be of one size"
            )
        side = height
        samples.append(ShapesSample(look(picture), scene))
    return samples, side


def _scene(each: Captioned) -> Scene | None:
    scene = parse(each.text)
    if scene is None and each.text:
        raise UserError(
            f"{each.file} has the prompt {each.text!r}, which is no sentence of the "
            "shapes set; score only prompts like 'a red star on a blue background'"
        )
    return scene


def split_of(scene: Scene) -> str:
    """Returns "seen", the one rule that holds a scene out, or "several"."""
    rules = held_out(scene)
    return "several" if len(rules) > 1 else next(iter(rules), "seen")
