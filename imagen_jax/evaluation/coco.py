r"""COCO's validation set as a user has it on disk: its captions and its pictures.

    DIR/annotations/captions_val2014.json
    DIR/val2014/COCO_val2014_000000000042.jpg

The paper's zero-shot FID-30K (arXiv:2205.11487, section 3): 30,000 prompts drawn at
random from the validation set; samples compared with the pictures of the full
validation set, 256 x 256. The paper does not say how it drew, which year, or how the
references were cut. Here:

  year: 2014 (40,504 pictures, 202,654 captions) where the folder has it, else 2017
    (5,000 pictures, 25,014 captions).
  captions: drawn from all captions, not one a picture, without repetition: caption k
    has the number sha256("SEED\nID of k"), and the lowest come first. So a draw
    depends on nothing but the seed and the ids, and 10,000 captions are the first
    10,000 of 30,000.
  references: the largest centre square (as GLIDE and DALL-E), then clean-fid's resize.

Spaces around a caption and line ends within it, which COCO has, are cleaned; a caption
without a word is left out.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError

YEARS = (2014, 2017)
LAYOUT = (
    "give COCO's own layout: annotations/captions_val2014.json and val2014/*.jpg, or "
    "the same of 2017"
)


class Caption(NamedTuple):
    """A caption: COCO's number of it and its text, on one line."""

    id: int
    text: str


class CocoSet(NamedTuple):
    """A validation set.

    Attributes:
      year: 2014 or 2017.
      pictures: files of all pictures, by COCO's number of them.
      captions: all of them, by their numbers.
    """

    year: int
    pictures: tuple[Path, ...]
    captions: tuple[Caption, ...]


def open_coco(folder: Path, year: int | None = None) -> CocoSet:
    """Returns the validation set in a folder; every picture is there.

    Args:
      folder: in COCO's own layout.
      year: 2014 or 2017; None takes the first of them that is there.

    Raises:
      UserError: no annotations, a file of another kind, or a missing picture.
    """
    year = _find_year(folder, year)
    path = _annotations(folder, year)
    try:
        content = json.loads(path.read_text("utf-8"))
        files = {int(e["id"]): str(e["file_name"]) for e in content["images"]}
        found = sorted(
            Caption(int(entry["id"]), " ".join(str(entry["caption"]).split()))
            for entry in content["annotations"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of COCO captions ({type(error).__name__}: {error}); "
            f"{LAYOUT}"
        ) from error
    pictures = [folder / f"val{year}" / files[number] for number in sorted(files)]
    captions = [caption for caption in found if caption.text]
    _check(folder, year, pictures, captions)
    return CocoSet(year, tuple(pictures), tuple(captions))


def draw_captions(captions: Sequence[Caption], num: int, seed: int) -> list[Caption]:
    """Returns captions drawn by the module's rule, in the order of the draw.

    Args:
      captions: all of the set, in any order.
      num: how many.
      seed: another one draws others.

    Raises:
      UserError: there are fewer.
    """
    if not 1 <= num <= len(captions):
        raise UserError(
            f"--num={num} captions cannot be drawn from {len(captions)}; give 1 to "
            f"{len(captions)}"
        )

    def place(caption: Caption) -> tuple[bytes, int]:
        return hashlib.sha256(f"{seed}\n{caption.id}".encode()).digest(), caption.id

    return sorted(captions, key=place)[:num]


def describe_draw(drawn: Sequence[Caption], year: int, seed: int) -> dict[str, Any]:
    """Returns a draw for a result: its rule, seed, number and the hash of its ids."""
    numbers = "\n".join(str(caption.id) for caption in drawn)
    return {
        "set": f"COCO captions val{year}",
        "rule": "the lowest sha256('SEED\\nCAPTION_ID') of all captions",
        "seed": seed,
        "count": len(drawn),
        "ids_sha256": hashlib.sha256(numbers.encode()).hexdigest(),
    }


def _annotations(folder: Path, year: int) -> Path:
    return folder / "annotations" / f"captions_val{year}.json"


def _find_year(folder: Path, year: int | None) -> int:
    for known in YEARS if year is None else (year,):
        if _annotations(folder, known).is_file():
            return known
    asked = "" if year is None else f" of {year}"
    raise UserError(f"--coco={folder} has no annotations{asked}; {LAYOUT}")


def _check(
    folder: Path, year: int, pictures: Sequence[Path], captions: Sequence[Caption]
) -> None:
    """Refuses a set that is not whole."""
    if not pictures or not captions:
        raise UserError(
            f"{_annotations(folder, year)} lists {len(pictures)} pictures and "
            f"{len(captions)} captions; both are needed"
        )
    there = {path.name for path in (folder / f"val{year}").glob("*")}
    if missing := [path for path in pictures if path.name not in there]:
        raise UserError(
            f"{len(missing)} of {len(pictures)} pictures that the annotations list are "
            f"missing (the first is {missing[0]}); unpack val{year}.zip again"
        )
