"""Draws the scenes of `shapes`: where each thing is, and its pixels.

Lengths are shares of the frame, x to the right and y downwards. A thing fills the
square of half side `radius` about its centre (a star nearly). Every length has room
around the limits by which `imagen_jax.evaluation.shapes_checker` decides.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from imagen_jax.data.images import box_downsample
from imagen_jax.data.sources.shapes import COLOURS, PALETTE, SIZES, Scene

RADII = {"small": (0.17, 0.185), "large": (0.34, 0.37)}
"""Range of the radius by size; a thing without a size takes either range."""

_OVERSAMPLING = 4  # edges are antialiased by the box average of this many pixels
_NEAR, _FAR = 0.26, 0.74  # centres at the sides
_JITTER = 0.035


class Placed(NamedTuple):
    """A thing with its place."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float


def place(scene: Scene, rng: np.random.Generator) -> list[Placed]:
    """Returns where a scene's things are, in the scene's order."""
    size = scene.detail if scene.detail in SIZES else "small"
    if scene.kind == "single" and not scene.detail:
        size = SIZES[rng.integers(2)]
    radius = rng.uniform(*RADII[size])
    if scene.kind == "single":
        centres = rng.uniform(0.4, 0.6, (1, 2))
    else:
        centres = _centres(scene, rng)
        centres = centres + rng.uniform(-_JITTER, _JITTER, centres.shape)
    return [
        Placed(colour, shape, float(x), float(y), float(radius))
        for (colour, shape), (x, y) in zip(scene.things, centres, strict=True)
    ]


def _centres(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns (x, y) of each thing before it is jittered, [things 2]."""
    match scene.kind:
        case "position":
            words = scene.detail.split()
            x = _FAR if "right" in words else _NEAR if "left" in words else 0.5
            y = _FAR if "bottom" in words else _NEAR if "top" in words else 0.5
            return np.array([[x, y]])
        case "relation":
            across = rng.uniform(0.3, 0.7)
            vertical = scene.detail in ("above", "below")
            first = _NEAR if scene.detail in ("above", "left of") else _FAR
            along = np.array([first, 1 - first])
            pair = np.stack([np.full(2, across), along], 1)
            return pair if vertical else pair[:, ::-1]
    corners = np.array([(x, y) for x in (_NEAR, _FAR) for y in (_NEAR, _FAR)])
    return corners[rng.permutation(4)[: len(scene.things)]]


def outline(shape: str) -> np.ndarray:
    """Returns the corners of a shape in [-1, 1] x [-1, 1], [corners 2]."""
    match shape:
        case "square":
            return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
        case "triangle":
            return np.array([(0, -1), (1, 1), (-1, 1)], float)
        case "star":
            angles = np.pi * (np.arange(10) / 5 - 0.5)
            radii = np.where(np.arange(10) % 2, 0.45, 1.05)
            return np.stack([radii * np.cos(angles), 0.05 + radii * np.sin(angles)], 1)
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def render(
    ground: str, things: list[Placed], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns the picture of placed things on a ground, antialiased.

    Args:
      ground: of `shapes.COLOURS`.
      things: later ones cover earlier ones.
      size: side of the picture in pixels.
    """
    side = size * _OVERSAMPLING
    canvas = Image.new("RGB", (side, side), PALETTE[ground])
    pencil = ImageDraw.Draw(canvas)
    for thing in things:
        corners = np.array([thing.x, thing.y]) + thing.radius * outline(thing.shape)
        points = [(float(x), float(y)) for x, y in corners * side - 0.5]
        pencil.polygon(points, fill=PALETTE[thing.colour])
    return box_downsample(np.array(canvas), _OVERSAMPLING)


def draw(scene: Scene, seed: tuple[int, ...], size: int = 64) -> np.ndarray:
    """Returns a picture of a scene, uint8 [size size 3].

    Args:
      scene: what to draw.
      seed: numbers of at least 0, on which what the sentence leaves open depends. It
        does not depend on the size.
      size: side of the picture in pixels.
    """
    numbers = [COLOURS.index(scene.ground), len(scene.things)]
    rng = np.random.default_rng((*seed, *numbers))
    return render(scene.ground, place(scene, rng), size)
