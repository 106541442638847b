"""Writes the emoji of several styles as tars, with an index of them."""

import functools
import io
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from imagen_jax.data.images import encode_png
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.format import MANIFEST
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.emoji import MAX_SIZE, STYLES, Draw, compose, load_drawings
from imagen_jax.errors import UserError


def check_emoji(styles: Sequence[str], size: int, variants: int) -> None:
    """Refuses what `write_emoji` could not make.

    Raises:
      UserError: for an unknown or repeated style or a bad number.
    """
    if unknown := [style for style in styles if style not in STYLES]:
        raise UserError(
            f"there is no emoji style {unknown[0]!r}; choose of {', '.join(STYLES)}"
        )
    if not styles or len(set(styles)) < len(styles):
        raise UserError(
            f"--styles is {','.join(styles)!r}; name one or more, each once"
        )
    if size < 1 or variants < 1:
        raise UserError(
            f"--size is {size} and --variants {variants}; both must be at least 1"
        )
    for style in styles:
        if size > MAX_SIZE.get(style, size):
            raise UserError(
                f"--size is {size}; the style {style} is drawn at {MAX_SIZE[style]} "
                "pixels, so give no more or leave it out"
            )


def write_emoji(
    styles: Sequence[str], folder: str, size: int = 256, variants: int = 1
) -> dict[str, int]:
    """Returns the number of pictures by style, after writing tars and their index.

    Args:
      styles: keys of `STYLES`; accepted by `check_emoji`.
      folder: for the tars, made if missing; the index is its subfolder "index", and a
        folder that has one is left alone.
      size: side of the pictures in pixels, at least 1.
      variants: pictures of each drawing, at least 1.
    """
    if os.path.exists(os.path.join(folder, "index", MANIFEST)):
        return {}
    os.makedirs(folder, exist_ok=True)
    paths, counts = [], {}
    for style in styles:
        drawings = load_drawings(style)
        paths.append(os.path.join(folder, f"{style}.tar"))
        counts[style] = len(drawings) * variants
        _write_tar(paths[-1], style, drawings, size, variants)
    build_index(paths, os.path.join(folder, "index"), IndexOptions())
    return counts


def _write_tar(
    path: str, style: str, drawings: dict[str, Draw], size: int, variants: int
) -> None:
    def make(job: tuple[str, int]) -> tuple[bytes, str]:
        concept, variant = job
        picture, caption = compose(drawings[concept], concept, style, variant, size)
        return encode_png(picture), caption

    jobs = [(concept, i) for concept in drawings for i in range(variants)]
    with ThreadPoolExecutor() as pool, tarfile.open(path, "w") as archive:
        add = functools.partial(_add, archive)
        for number, (png, caption) in enumerate(pool.map(make, jobs)):
            add(f"{style}-{number:06}.png", png)
            add(f"{style}-{number:06}.txt", caption.encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))
