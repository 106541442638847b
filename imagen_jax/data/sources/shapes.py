"""The shapes set: scenes of a small grammar, whose every fact a rule can check.

    single    a small blue square on a purple background
    position  a red star in the top right on a white background
    relation  a purple circle above a green star on a blue background
    count     three red stars on a black background

A scene has one sentence and a sentence has one scene, but for the places and radii that
the sentence leaves open: `parse` undoes `caption`. Drawing is in `shapes_drawing`.

Four kinds of combinations are never trained on (`held_out`), each a split of its own:

  colour_shape   colour i with shape i mod 4, in any scene
  relation_pair  shape j above shape j + 1, or left of shape j + 2 (mod 4), whichever
                 of the two the sentence names first
  count_colour   four things that are purple or orange
  binding        two colours and two shapes whose numbers add up to 0 mod 5, in either
                 binding: each scene has a partner with its two colours swapped
"""

import re
from typing import NamedTuple

import numpy as np

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 40),
    "yellow": (250, 225, 50),
    "green": (25, 150, 60),
    "blue": (40, 70, 215),
    "purple": (135, 45, 165),
    "orange": (255, 135, 20),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
"""RGB of each colour, of things and grounds alike; far from each other in Lab."""

COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star")
SIZES = ("small", "large")
PLACES = ("center", "top left", "top right", "bottom left", "bottom right")
RELATIONS = ("above", "below", "left of", "right of")
COUNTS = ("one", "two", "three", "four")
KINDS = ("single", "position", "relation", "count")
HELD_OUT = ("colour_shape", "relation_pair", "count_colour", "binding")
SPLITS = ("train", "seen", *HELD_OUT)
"""Of "seen" are the combinations of training, and other draws."""

_RARE_COLOURS = ("purple", "orange")  # never trained on four at a time
# Of the proposals of each kind; those of relations are refused most, as two things
# must keep to the rules: a sixth of the training scenes are relations.
_KIND_SHARES = (0.3, 0.2, 0.3, 0.2)
# Of the proposals of training without a star: nearly all single things that a model
# draws wrong are stars (docs/shapes.md).
_STARLESS_KEPT = 0.5


class Scene(NamedTuple):
    """What a sentence says.

    Attributes:
      kind: of `KINDS`.
      ground: colour of the ground.
      things: (colour, shape) of each thing, in the sentence's order.
      detail: of `SIZES` for "single" ("" leaves the size open), of `PLACES` for
        "position", of `RELATIONS` for "relation", "" for "count".
    """

    kind: str
    ground: str
    things: tuple[tuple[str, str], ...]
    detail: str = ""


def caption(scene: Scene) -> str:
    """Returns the sentence of a scene."""
    colour, shape = scene.things[0]
    match scene.kind:
        case "single":
            what = _with_article(" ".join(filter(None, (scene.detail, colour, shape))))
        case "position":
            what = f"{_with_article(colour)} {shape} in the {scene.detail}"
        case "relation":
            other = " ".join(scene.things[1])
            what = f"{_with_article(colour)} {shape} {scene.detail} "
            what += _with_article(other)
        case _:
            number = len(scene.things)
            what = f"{COUNTS[number - 1]} {colour} {shape}{'s' if number > 1 else ''}"
    return f"{what} on {_with_article(scene.ground)} background"


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


_THING = rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_SENTENCE = re.compile(
    rf"(?:an? (?:({'|'.join(SIZES)}) )?|({'|'.join(COUNTS)}) ){_THING}s?"
    rf"(?: in the ({'|'.join(PLACES)})| ({'|'.join(RELATIONS)}) an? {_THING})?"
    rf" on an? ({'|'.join(COLOURS)}) background"
)


def parse(text: str) -> Scene | None:
    """Returns the scene of a sentence, None for what is no sentence of the grammar."""
    match = _SENTENCE.fullmatch(text)
    if match is None:
        return None
    size, count, colour, shape, place, relation, *other, ground = match.groups()
    thing = (colour, shape)
    if count:
        number = COUNTS.index(count) + 1
        scene = Scene("count", ground, (thing,) * number)
    elif relation:
        scene = Scene("relation", ground, (thing, (other[0], other[1])), relation)
    elif place:
        scene = Scene("position", ground, (thing,), place)
    else:
        scene = Scene("single", ground, (thing,), size or "")
    # Words that do not go together, and wrong articles, fail here.
    return scene if caption(scene) == text and _is_sound(scene) else None


def _is_sound(scene: Scene) -> bool:
    """Whether every thing can be told from the ground and from the other one."""
    distinct = scene.kind == "count" or len(set(scene.things)) == len(scene.things)
    return distinct and all(colour != scene.ground for colour, _ in scene.things)


def held_out(scene: Scene) -> frozenset[str]:
    """Returns which of the `HELD_OUT` rules keep a scene from training."""
    colours = [COLOURS.index(colour) for colour, _ in scene.things]
    shapes = [SHAPES.index(shape) for _, shape in scene.things]
    rules = set()
    if any(c % 4 == s for c, s in zip(colours, shapes, strict=True)):
        rules.add("colour_shape")
    if scene.kind == "relation":
        vertical = scene.detail in ("above", "below")
        swapped = scene.detail in ("below", "right of")
        first, second = shapes[::-1] if swapped else shapes
        if second == (first + (1 if vertical else 2)) % 4:
            rules.add("relation_pair")
        two_of_each = colours[0] != colours[1] and shapes[0] != shapes[1]
        if two_of_each and (sum(colours) + sum(shapes)) % 5 == 0:
            rules.add("binding")
    if len(scene.things) == 4 and scene.things[0][0] in _RARE_COLOURS:
        rules.add("count_colour")
    return frozenset(rules)


def swap(scene: Scene) -> Scene:
    """Returns a relation scene with the colours of its two things exchanged."""
    (colour, shape), (other_colour, other_shape) = scene.things
    return scene._replace(things=((other_colour, shape), (colour, other_shape)))


def draw_scene(seed: int, index: int, split: str, kind: str | None = None) -> Scene:
    """Returns scene `index` of a split, a function of the arguments alone.

    Args:
      seed: of the set, at least 0.
      index: at least 0.
      split: of `SPLITS`; a held-out split's scenes break its rule and no other, and a
        scene of "binding" does so with its partner.
      kind: of `KINDS`; None mixes those that the split has.

    Raises:
      ValueError: for a split that has no scene of this kind.
    """
    if kind not in (None, *kinds_of(split)):
        raise ValueError(f"the split {split!r} has no scene of kind {kind!r}")
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    wanted = frozenset({split} & set(HELD_OUT))
    while True:
        scene = _propose(rng, kind or str(rng.choice(KINDS, p=_KIND_SHARES)))
        if not _is_sound(scene) or held_out(scene) != wanted:
            continue
        if split == "binding" and held_out(swap(scene)) != wanted:
            continue
        has_star = any(shape == "star" for _, shape in scene.things)
        if split != "train" or has_star or rng.random() < _STARLESS_KEPT:
            return scene


def kinds_of(split: str) -> tuple[str, ...]:
    """Returns the kinds of scenes that a split has."""
    match split:
        case "relation_pair" | "binding":
            return ("relation",)
        case "count_colour":
            return ("count",)
    return KINDS


def _propose(rng: np.random.Generator, kind: str) -> Scene:
    thing, ground = (_pick(rng, COLOURS), _pick(rng, SHAPES)), _pick(rng, COLOURS)
    match kind:
        case "single":
            return Scene(kind, ground, (thing,), _pick(rng, ("", *SIZES)))
        case "position":
            return Scene(kind, ground, (thing,), _pick(rng, PLACES))
        case "relation":
            other = (_pick(rng, COLOURS), _pick(rng, SHAPES))
            return Scene(kind, ground, (thing, other), _pick(rng, RELATIONS))
    return Scene(kind, ground, (thing,) * int(rng.integers(1, 5)))


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]
