"""PNGs that say how they were made, and how to draw them again.

The text chunks of a picture (tEXt, or iTXt where Latin-1 does not do) are

    prompt, negative, seed     for people, and for programs that show them
    Software                   "imagen_jax VERSION"
    imagen_jax                 the `Recipe`, JSON

and of a sheet, which shows many

    prompt, seed               of all, a prompt a line, seeds by commas
    Copyright                  what stands in its footer
    imagen_jax_sheet           the list of their recipes, JSON

Every viewer ignores what it does not know. A file gets its name when it is complete.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from imagen_jax.errors import UserError
from imagen_jax.sampling.recipe import Recipe, read_recipe

KEY, SHEET_KEY, FOOTER_KEY = "imagen_jax", "imagen_jax_sheet", "Copyright"
LONG = 10_000  # bytes of a text above which it is compressed
LONGEST = 2**20  # that Pillow reads of a compressed one


def write_png(
    path: Path, picture: UInt8[np.ndarray, "h w 3"], recipe: Recipe | None = None
) -> None:
    """Writes a picture, whole or not at all; the folder is made if missing.

    Args:
      path: of the PNG.
      picture: bytes.
      recipe: how it was made; None leaves the text out.
    """
    save_png(path, Image.fromarray(picture), _texts(recipe))


def save_png(path: Path, image: Image.Image, texts: Mapping[str, str]) -> None:
    """Writes a PNG with texts by key, long ones compressed, whole or not at all."""
    chunks = PngInfo()
    for key, value in texts.items():
        chunks.add_text(key, value, zip=LONG < len(value.encode()) < LONGEST)
    with whole_file(path) as partial:
        image.save(partial, "PNG", pnginfo=chunks)


def check_out(path: Path, flag: str = "--out") -> None:
    """Refuses a place where no PNG can be written, before one is drawn for it.

    Args:
      path: of the PNG.
      flag: that named it, for the message.

    Raises:
      UserError: it is a folder, has another ending, or lies below a file.
    """
    if path.is_dir():
        raise UserError(
            f"{flag}={path} is a folder; give the file to write, {path / 'new.png'} say"
        )
    if path.suffix.lower() != ".png":
        raise UserError(f"{flag}={path} must end in .png: a PNG is written")
    check_folder(path.parent, f"{flag}={path}")


def check_folder(folder: Path, what: str) -> None:
    """Refuses a folder that is not there and cannot be made.

    Args:
      folder: to be written to.
      what: names it, for the message.
    """
    folder = folder.absolute()
    above = next(place for place in (folder, *folder.parents) if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        is_what = "may not be written to" if above.is_dir() else "is a file"
        raise UserError(
            f"{what} cannot be written, since {above} {is_what}; give another place"
        )


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which becomes `path` in one move at the end.

    The folder is made if missing. Where an exception ends the writing, nothing stays;
    a killed process leaves a file called ".*.partial". Several hosts may write at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_png(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], Recipe]:
    """Returns a picture and how it was made.

    Raises:
      UserError: it cannot be read, is no PNG, or has no such text.
    """
    picture, texts = _read(path)
    if KEY not in texts:
        raise UserError(
            f"{path} does not say how it was drawn; give a PNG of this package that no "
            "other program has saved again"
        )
    return picture, read_recipe(texts[KEY], path)


def read_sheet(
    path: Path,
) -> tuple[UInt8[np.ndarray, "h w 3"], list[Recipe], str | None] | None:
    """Returns a sheet, how its pictures were made and its footer; None if it is none.

    Raises:
      UserError: it cannot be read or is no PNG, or its text is malformed.
    """
    picture, texts = _read(path)
    if SHEET_KEY not in texts:
        return None
    try:
        fields = json.loads(texts[SHEET_KEY])
        listed = [json.dumps(entry) for entry in fields] if fields else [""]
    except (ValueError, TypeError, RecursionError):
        listed = [""]
    recipes = [read_recipe(text, path) for text in listed]
    return picture, recipes, texts.get(FOOTER_KEY)


def sheet_texts(recipes: Sequence[Recipe]) -> dict[str, str]:
    """Returns what a sheet's PNG says of the pictures on it, at least one."""
    return {
        "prompt": "\n".join(dict.fromkeys(recipe.prompt for recipe in recipes)),
        "seed": ",".join(str(recipe.seed) for recipe in recipes),
        "Software": _software(recipes[0]),
        SHEET_KEY: json.dumps([recipe._asdict() for recipe in recipes]),
    }


def _read(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, str]]:
    """Returns the pixels and texts of a PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            return np.asarray(image.convert("RGB")), dict(image.text)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise UserError(
            f"{path} is no PNG that can be read ({error}); give one that this package "
            "drew"
        ) from error


def _texts(recipe: Recipe | None) -> Mapping[str, str]:
    if recipe is None:
        return {}
    return {
        "prompt": recipe.prompt,
        "negative": recipe.negative,
        "seed": str(recipe.seed),
        "Software": _software(recipe),
        KEY: json.dumps(recipe._asdict()),
    }


def _software(recipe: Recipe) -> str:
    return f"imagen_jax {recipe.versions['imagen_jax']}"
