"""Checks a picture of the shapes set against its sentence, by rule.

    nearest palette colour of each pixel in CIE Lab -> majority along the border: ground
    -> all that is not ground, specks opened away -> connected components: things
    -> each one's majority colour inside, nearest of four masks: shape, box: place, size

No network takes part, so what it says is exact: of real pictures all pass, of those
that differ from their sentence in one fact none does (tests/evaluation).
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from imagen_jax.data.images import box_downsample
from imagen_jax.data.sources.shapes import COLOURS, PALETTE, SHAPES, Scene
from imagen_jax.data.sources.shapes_drawing import Placed, render

FACTS = ("ground", "count", "colour", "shape", "binding", "layout", "all")
"""What is judged: the ground's colour; how many things; their colours and their shapes,
each by itself; which colour has which shape; size, place and relation; all of these."""

SIDE = 64  # pictures are reduced to this many pixels first
BETWEEN_SIZES = 0.26  # radius that parts small from large
BETWEEN_PLACES = (0.38, 0.62)  # centres that part left from center from right
MIN_AREA = 30  # in pixels; smaller specks are no things
_MASK_SIDE = 32


class Seen(NamedTuple):
    """What a picture shows."""

    ground: str
    things: tuple[Placed, ...]


def look(picture: UInt8[np.ndarray, "s s 3"]) -> Seen:
    """Returns what is on a picture.

    Args:
      picture: RGB; its side is a multiple of `SIDE`.

    Raises:
      ValueError: for another size.
    """
    size = len(picture)
    if size < SIDE or size % SIDE or picture.shape != (size, size, 3):
        raise ValueError(
            f"the picture is {picture.shape}; its side must be a multiple of {SIDE}"
        )
    nearest = _nearest_colours(box_downsample(picture, size // SIDE))
    border = np.concatenate([nearest[:2].ravel(), nearest[-2:].ravel()])
    border = np.concatenate([border, nearest[:, :2].ravel(), nearest[:, -2:].ravel()])
    ground = _majority(border)
    # Opening takes away specks, but also the points of stars: these are put back.
    foreground = nearest != ground
    kept = ndimage.binary_opening(foreground, np.ones((3, 3)))
    kept = ndimage.binary_propagation(kept, mask=foreground)
    regions = np.zeros(kept.shape, np.int32)
    ndimage.label(kept, output=regions)
    things = []
    for number, box in enumerate(ndimage.find_objects(regions), 1):
        inside = regions[box] == number
        if inside.sum() >= MIN_AREA:
            things.append(_describe(inside, nearest[box], box))
    return Seen(COLOURS[ground], tuple(things))


def _describe(
    inside: Bool[np.ndarray, "h w"], nearest: Int[np.ndarray, "h w"], box: tuple
) -> Placed:
    # The rim mixes the thing's colour with the ground's and may be near a third.
    core = ndimage.binary_erosion(inside, np.ones((3, 3)), iterations=2).astype(bool)
    colour = _majority(nearest[core if core.any() else inside])
    height, width = inside.shape
    return Placed(
        COLOURS[colour],
        SHAPES[int(_agreement(inside).argmax())],
        (box[1].start + width / 2) / SIDE,
        (box[0].start + height / 2) / SIDE,
        max(height, width) / 2 / SIDE,
    )


def _majority(labels: Int[np.ndarray, " n"]) -> int:
    return int(np.bincount(labels).argmax())


def _agreement(inside: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, " shapes"]:
    """Returns the intersection over union with the mask of each shape."""
    mask, masks = _stretch(inside), _masks()
    both = (masks & mask).sum((1, 2))
    return both / (masks | mask).sum((1, 2))


def _stretch(inside: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "m m"]:
    """Returns the mask at the size of the four, its box filled in both directions."""
    share = (np.arange(_MASK_SIDE) + 0.5) / _MASK_SIDE
    height, width = inside.shape
    rows, columns = (share * height).astype(int), (share * width).astype(int)
    return inside[rows[:, None], columns]


@functools.cache
def _masks() -> Bool[np.ndarray, "shapes m m"]:
    """Returns the mask of each shape, seen as a thing of a picture is."""
    masks = []
    for shape in SHAPES:
        thing = Placed("black", shape, 0.5, 0.5, 0.25)
        inside = render("white", [thing], SIDE)[..., 0] < 128
        (box,) = ndimage.find_objects(inside.astype(int))
        masks.append(_stretch(inside[box]))
    return np.stack(masks)


def _nearest_colours(picture: UInt8[np.ndarray, "s s 3"]) -> Int[np.ndarray, "s s"]:
    """Returns the number in `COLOURS` of each pixel's nearest colour."""
    lab, palette = _lab(picture), _lab(np.array([*PALETTE.values()], np.uint8))
    distances = ((lab[..., None, :] - palette) ** 2).sum(-1)
    return distances.argmin(-1)


def _lab(rgb: UInt8[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Returns CIE L*a*b* (D65) of sRGB. Source: IEC 61966-2-1 and CIE 15."""
    linear = _linear()[rgb]
    to_xyz = np.array(
        [
            (0.4124, 0.3576, 0.1805),
            (0.2126, 0.7152, 0.0722),
            (0.0193, 0.1192, 0.9505),
        ]
    )
    xyz = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@functools.cache
def _linear() -> Float[np.ndarray, " 256"]:
    """Returns the linear light of each sRGB byte, in [0, 1]."""
    value = np.arange(256) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def judge(seen: Seen, scene: Scene) -> dict[str, bool]:
    """Returns which of the `FACTS` of a scene a picture shows.

    A relation is judged between the things that the sentence names, so it is missed
    where these are not there.
    """
    things = [(thing.colour, thing.shape) for thing in seen.things]
    wanted = list(scene.things)
    verdict = {
        "ground": seen.ground == scene.ground,
        "count": len(things) == len(wanted),
        "colour": sorted(c for c, _ in things) == sorted(c for c, _ in wanted),
        "shape": sorted(s for _, s in things) == sorted(s for _, s in wanted),
        "binding": sorted(things) == sorted(wanted),
        "layout": _has_layout(seen, scene),
    }
    return verdict | {"all": all(verdict.values())}


def _has_layout(seen: Seen, scene: Scene) -> bool:
    if not scene.detail:
        return True
    if scene.kind == "relation":
        found = [
            [t for t in seen.things if (t.colour, t.shape) == wanted]
            for wanted in scene.things
        ]
        if [len(each) for each in found] != [1, 1]:
            return False
        (first,), (second,) = found
        return _relation(first, second) == scene.detail
    if len(seen.things) != 1:
        return False
    (thing,) = seen.things
    if scene.kind == "single":
        return (thing.radius > BETWEEN_SIZES) == (scene.detail == "large")
    return _place(thing) == scene.detail


def _relation(first: Placed, second: Placed) -> str:
    """Returns how the first stands to the second, by the larger of the distances."""
    right, down = first.x - second.x, first.y - second.y
    if abs(down) > abs(right):
        return "below" if down > 0 else "above"
    return "right of" if right > 0 else "left of"


def _place(thing: Placed) -> str:
    """Returns the place of `PLACES`, or another pair of words between them."""
    low, high = BETWEEN_PLACES
    row = "top" if thing.y < low else "bottom" if thing.y > high else ""
    column = "left" if thing.x < low else "right" if thing.x > high else ""
    return f"{row} {column}".strip() or "center"
