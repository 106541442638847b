"""A folder of pictures as a metric meets it: checked, counted, hashed, cropped.

What pictures went into a figure is a part of the figure. The manifest of a folder says
how many there are, their sizes, modes and formats, how they were cropped, how many are
copies, and a hash of all files, by which two runs are known to be of the same pictures.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imagen_jax.data.images import SUFFIXES, decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.features.resize import NAME as RESIZE
from imagen_jax.features.resize import resize


class PictureFolder(NamedTuple):
    """The pictures of a folder.

    Attributes:
      folder: where they are.
      files: in the order of their names, subfolders included.
      square: side in pixels to which the largest central square of each picture is
        resized first; None takes pictures as they are.
    """

    folder: Path
    files: tuple[Path, ...]
    square: int | None


class Picture(NamedTuple):
    """One picture and what its file was like.

    Attributes:
      pixels: RGB, on white where it was transparent, cropped as the folder asks.
      size: "WIDTHxHEIGHT" of the file.
      mode: Pillow's, of the file: "RGB", "L", "RGBA".
      format: Pillow's, of the file: "PNG", "JPEG".
      sha256: of the file.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    size: str
    mode: str
    format: str
    sha256: str


def open_folder(folder: Path, square: int | None = None) -> PictureFolder:
    """Returns the pictures below a folder; none is read yet.

    Args:
      folder: searched with its subfolders for names with the suffixes of pictures.
      square: see `PictureFolder`.

    Raises:
      UserError: it is no folder, or has no picture.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give a folder of pictures")
    if square is not None and square < 1:
        raise UserError(f"--square is {square}; it must be at least 1 pixel")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise UserError(
            f"{folder} has no picture; give a folder with files that end in "
            f"{', '.join(SUFFIXES)}"
        )
    return PictureFolder(folder, tuple(files), square)


def read_picture(pictures: PictureFolder, file: Path) -> Picture:
    """Returns one picture.

    Raises:
      UserError: it cannot be read.
    """
    try:
        data = file.read_bytes()
        pixels = decode(data)
        with Image.open(file) as image:
            mode, form = image.mode, image.format or "unknown"
    except (OSError, BadRecordError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot read the picture {file} ({reason}); make it again or take it away"
        ) from error
    height, width, _ = pixels.shape
    return Picture(
        pixels if pictures.square is None else crop_square(pixels, pictures.square),
        f"{width}x{height}",
        mode,
        form,
        hashlib.sha256(data).hexdigest(),
    )


def crop_square(
    pixels: UInt8[np.ndarray, "h w 3"], side: int
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """Returns the largest central square, resized as clean-fid does and rounded."""
    height, width, _ = pixels.shape
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    square = pixels[top : top + length, left : left + length]
    if length == side:
        return square
    return np.rint(resize(square, side)).astype(np.uint8)


class Survey:
    """Collects what a folder's manifest says while its pictures pass by."""

    def __init__(self, pictures: PictureFolder):
        """Starts without pictures."""
        self._pictures = pictures
        self._counts = {key: Counter() for key in ("sizes", "modes", "formats")}
        self._copies: Counter[str] = Counter()
        self._digest = hashlib.sha256()

    def read(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Yields the pixels of all pictures, in order.

        Raises:
          UserError: a picture cannot be read, or pictures that are not cropped differ
            in size.
        """
        first = None
        for file in self._pictures.files:
            picture = read_picture(self._pictures, file)
            first = first or (file, picture.size)
            if self._pictures.square is None and picture.size != first[1]:
                raise UserError(
                    f"{file} has {picture.size} pixels and {first[0].name} {first[1]}; "
                    "pictures of mixed sizes are not comparable: make them one size, "
                    "or give --square=SIDE to crop and resize all of them"
                )
            for key, value in zip(self._counts, picture[1:4], strict=True):
                self._counts[key][value] += 1
            name = file.relative_to(self._pictures.folder).as_posix()
            self._digest.update(f"{picture.sha256}  {name}\n".encode())
            self._copies[hashlib.sha256(picture.pixels.tobytes()).hexdigest()] += 1
            yield picture.pixels

    def manifest(self) -> dict[str, Any]:
        """Returns the manifest; `read` must have come to its end.

        Its sha256 is of the lines that `sha256sum` prints for the files, in the order
        of their names.
        """
        square = self._pictures.square
        rule = f"central square, {RESIZE}, rounded to uint8"
        return {
            "folder": self._pictures.folder.resolve().name,
            "count": self._copies.total(),
            "square": square,
            "crop": "none" if square is None else rule,
            **{
                key: dict(sorted(counts.items()))
                for key, counts in self._counts.items()
            },
            "copies": self._copies.total() - len(self._copies),
            "sha256": self._digest.hexdigest(),
        }


def warnings_of(manifest: dict[str, Any]) -> list[str]:
    """Returns what a reader must know of a figure's pictures, one sentence each."""
    warnings = []
    name = manifest["folder"]
    if len(manifest["modes"]) > 1:
        modes = ", ".join(
            f"{count} {mode}" for mode, count in manifest["modes"].items()
        )
        warnings.append(
            f"{name}: pictures of mixed modes ({modes}); all were made RGB, "
            "transparency on white"
        )
    if len(manifest["formats"]) > 1:
        warnings.append(
            f"{name}: files of mixed formats ({', '.join(manifest['formats'])}); "
            "compression moves all of these distances"
        )
    if manifest["copies"]:
        warnings.append(
            f"{name}: {manifest['copies']} of {manifest['count']} pictures are copies "
            "of others; they count as often as they occur"
        )
    return warnings
