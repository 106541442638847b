"""PNGs that say how they were made, and how to draw them again.

The text chunks of a picture (tEXt, or iTXt where Latin-1 does not do) are

    prompt, negative, seed     for people, and for programs that show them
    Software                   "imagen_jax VERSION"
    imagen_jax                 the `Recipe`, JSON

Every viewer ignores what it does not know. A file gets its name when it is complete.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from imagen_jax.errors import UserError
from imagen_jax.sampling.recipe import Recipe, read_recipe

KEY = "imagen_jax"


def write_png(
    path: Path, picture: UInt8[np.ndarray, "h w 3"], recipe: Recipe | None = None
) -> None:
    """Writes a picture, whole or not at all; the folder is made if missing.

    Args:
      path: of the PNG.
      picture: bytes.
      recipe: how it was made; None leaves the text out.
    """
    text = PngInfo()
    for key, value in _texts(recipe).items():
        text.add_text(key, value)
    with whole_file(path) as partial:
        Image.fromarray(picture).save(partial, "PNG", pnginfo=text)


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
    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            picture = np.asarray(image.convert("RGB"))
            text = image.text.get(KEY)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise UserError(
            f"{path} is no PNG that can be read ({error}); give one that this package "
            "drew"
        ) from error
    if text is None:
        raise UserError(
            f"{path} does not say how it was drawn; give a PNG of this package that no "
            "other program has saved again"
        )
    return picture, read_recipe(text, path)


def _texts(recipe: Recipe | None) -> Mapping[str, str]:
    if recipe is None:
        return {}
    return {
        "prompt": recipe.prompt,
        "negative": recipe.negative,
        "seed": str(recipe.seed),
        "Software": f"imagen_jax {recipe.versions['imagen_jax']}",
        KEY: json.dumps(recipe._asdict()),
    }
