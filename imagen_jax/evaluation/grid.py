"""Sample sheets: pictures in a grid with their captions, as one PNG.

Text is set in the scalable font that Pillow carries (Aileron), so a sheet looks the
same on every machine and no font is installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from imagen_jax.sampling.png_text import FOOTER_KEY, save_png

GAP = 12  # between cells and around the sheet, in pixels
TEXT_GAP = 4  # between a picture and its caption, in pixels
LINE_HEIGHT = 1.25  # of the font size
PAPER = (255, 255, 255)
INK = (20, 20, 20)
FOOTER_INK = (110, 110, 110)


def write_grid(
    path: str | Path,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    columns: int,
    *,
    cell: int = 160,
    title: str | None = None,
    footer: str | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes a PNG of the pictures, row by row, each above its caption.

    Args:
      path: of the PNG; its folder is made if it does not exist.
      images: at least one; sizes may differ.
      captions: one per picture, wrapped at the cell's width; "" leaves none.
      columns: pictures in a row, at least 1.
      cell: side of a picture on the sheet, in pixels.
      title: above the grid; None leaves none.
      footer: below the grid in small grey letters (the pictures' attribution, say);
        None leaves none. It stands in the file's text too.
      texts: of the file, by key; see `sampling.png_text`.
    """
    if not images or len(images) != len(captions) or columns < 1:
        raise ValueError(
            f"{len(images)} images, {len(captions)} captions and {columns} columns "
            "make no grid"
        )
    columns = min(columns, len(images))
    width = GAP + columns * (cell + GAP)
    font = _font(max(9, cell // 13))
    title_font = _font(max(12, cell // 9))
    footer_font = _font(max(8, cell // 15))
    text_width = width - 2 * GAP
    title_lines = wrap(title or "", title_font, text_width)
    footer_lines = wrap(footer or "", footer_font, text_width)
    wrapped = [wrap(caption, font, cell) for caption in captions]
    rows = range(0, len(images), columns)
    row_heights = [
        cell + max(_text_height(w, font) for w in wrapped[r : r + columns])
        for r in rows
    ]
    height = GAP + sum(row_heights) + GAP * len(row_heights)
    height += sum(
        _text_height(lines, f) + GAP * bool(lines)
        for lines, f in ((title_lines, title_font), (footer_lines, footer_font))
    )
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    if title_lines:
        _draw_lines(draw, title_lines, (GAP, top), title_font, INK)
        top += _text_height(title_lines, title_font) + GAP
    for row, row_height in zip(rows, row_heights, strict=True):
        for column, index in enumerate(range(row, min(row + columns, len(images)))):
            left = GAP + column * (cell + GAP)
            sheet.paste(_fit(images[index], cell), (left, top))
            _draw_lines(draw, wrapped[index], (left, top + cell), font, INK)
        top += row_height + GAP
    _draw_lines(draw, footer_lines, (GAP, top), footer_font, FOOTER_INK)
    copyright = {FOOTER_KEY: footer} if footer else {}
    save_png(Path(path), sheet, {**copyright, **(texts or {})})


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Given a size, Pillow returns its scalable font or raises; its stubs say less.
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Returns the text as lines no wider than `width` pixels; words are kept whole.

    A single word that is wider stands on a line of its own.
    """
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fit(image: UInt8[np.ndarray, "_ _ 3"], cell: int) -> Image.Image:
    """Returns the picture at the cell's size; enlarged pixels stay visible squares."""
    enlarging = cell >= max(image.shape[:2])
    kind = Image.Resampling.NEAREST if enlarging else Image.Resampling.LANCZOS
    return Image.fromarray(image).resize((cell, cell), kind)


def _text_height(lines: list[str], font: ImageFont.FreeTypeFont) -> int:
    return TEXT_GAP + round(LINE_HEIGHT * font.size * len(lines)) if lines else 0


def _draw_lines(
    draw: ImageDraw.ImageDraw,
    lines: list[str],
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    ink: tuple[int, int, int],
) -> None:
    """Draws lines of text below each other, `TEXT_GAP` under the corner."""
    left, top = corner
    for number, line in enumerate(lines):
        y = top + TEXT_GAP + round(LINE_HEIGHT * font.size * number)
        draw.text((left, y), line, font=font, fill=ink)
