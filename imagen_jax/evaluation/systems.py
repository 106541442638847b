"""Pictures that systems made for a list of prompts, theirs and others'.

A system is a folder, whatever drew it (DALL-E 2, GLIDE, Latent Diffusion, VQ-GAN+CLIP):

    a list of texts      manifest.jsonl or captions.csv (`captioned`): pictures belong
                         to the prompt that is their text
    PROMPT_SAMPLE.png    else names with the prompt's number in the list, from 0, and
    PROMPT/ANY.png       the sample's: 00012_3.png; or a subfolder of each prompt
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imagen_jax.data.images import SUFFIXES, picture_size
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.evaluation.captioned import (
    MANIFEST,
    TABLE,
    read_captioned,
    read_picture,
)
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.prompt_lists import Listed, PromptList

_NAME = re.compile(r"(\d+)_(\d+)")
TILE = 80  # pixels of a sample on a sheet


class System(NamedTuple):
    """A system's pictures.

    Attributes:
      name: as printed.
      files: for each prompt of the list, equally many.
      size: (width, height) of all of them.
    """

    name: str
    files: tuple[tuple[Path, ...], ...]
    size: tuple[int, int]


def read_system(name: str, folder: Path, prompts: Sequence[Listed], num: int) -> System:
    """Returns the first `num` pictures of each prompt.

    Raises:
      UserError: there is no such folder, pictures are missing, or their sizes differ.
    """
    if not folder.is_dir():
        raise UserError(f"--system {name}={folder} is no folder; give one of pictures")
    by_prompt = _by_text(folder, prompts) if _has_list(folder) else _by_name(folder)
    files = [tuple(by_prompt.get(i, ())[:num]) for i in range(len(prompts))]
    lacking = [i for i, found in enumerate(files) if len(found) < num]
    if lacking:
        first = lacking[0]
        raise UserError(
            f"{name} has fewer than {num} pictures for {len(lacking)} of "
            f"{len(prompts)} prompts (of number {first}, {prompts[first].prompt!r}, it "
            f"has {len(files[first])}); add them, or lower --num"
        )
    return System(name, tuple(files), _common_size(name, files))


def write_category_sheets(
    folder: Path,
    systems: Sequence[System],
    listed: PromptList,
    footer: str | None = None,
) -> list[Path]:
    """Returns the sheets, one of each category: a row a prompt, a column a system."""
    sheets = []
    for category in listed.categories:
        images, captions = [], []
        for i, each in enumerate(listed.prompts):
            if each.category == category:
                for system in systems:
                    images.append(_tile(system.files[i]))
                    captions.append(f"{system.name}: {each.prompt}")
        name = re.sub(r"\W+", "_", category).strip("_").lower() or "category"
        numbered = f"{listed.categories.index(category):02d}_{name}.png"
        sheets.append(folder / numbered)
        write_grid(
            sheets[-1],
            images,
            captions,
            len(systems),
            cell=max(map(len, images)),
            title=category,
            footer=footer,
        )
    return sheets


def describe_systems(
    systems: Sequence[System], listed: PromptList, num: int
) -> dict[str, Any]:
    """Returns what was compared, JSON: the list with its hash, and each system."""
    counts = {name: 0 for name in listed.categories}
    for each in listed.prompts:
        counts[each.category] += 1
    return {
        "list": {"source": listed.source, "sha256": listed.sha256},
        "prompts": len(listed.prompts),
        "repeated_prompts_left_out": listed.num_repeated,
        "categories": counts,
        "samples_per_prompt": num,
        "systems": [
            {"name": each.name, "size": "x".join(map(str, each.size))}
            for each in systems
        ],
        "pictures": [
            {
                "prompt": each.prompt,
                "category": each.category,
                "files": {s.name: [str(path) for path in s.files[i]] for s in systems},
            }
            for i, each in enumerate(listed.prompts)
        ],
    }


def _has_list(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (MANIFEST, TABLE))


def _by_text(folder: Path, prompts: Sequence[Listed]) -> dict[int, list[Path]]:
    files: dict[str, list[Path]] = {}
    for each in read_captioned(folder):
        files.setdefault(each.text.strip(), []).append(each.file)
    return {i: files.get(each.prompt, []) for i, each in enumerate(prompts)}


def _by_name(folder: Path) -> Mapping[int, list[Path]]:
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in _pictures(folder.iterdir()):
        if match := _NAME.fullmatch(path.stem):
            found.setdefault(int(match[1]), []).append((int(match[2]), path))
    for sub in folder.iterdir():
        if sub.is_dir() and sub.name.isdecimal():
            rows = enumerate(sorted(_pictures(sub.iterdir())))
            found.setdefault(int(sub.name), []).extend(rows)
    if not found:
        raise UserError(
            f"{folder} has no list {MANIFEST} or {TABLE}, and no pictures named "
            "PROMPT_SAMPLE.png or PROMPT/ANY.png with the prompt's number from 0; "
            "name them so"
        )
    return {i: [path for _, path in sorted(rows)] for i, rows in found.items()}


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.is_file() and p.suffix.lower() in SUFFIXES]


def _common_size(name: str, files: Sequence[Sequence[Path]]) -> tuple[int, int]:
    sizes: dict[tuple[int, int], Path] = {}
    for path in (path for found in files for path in found):
        try:
            sizes.setdefault(picture_size(path.read_bytes()), path)
        except (OSError, BadRecordError) as error:
            raise UserError(
                f"{path} cannot be read ({error}); make it again"
            ) from error
    if len(sizes) > 1:
        told = ", ".join(f"{w}x{h} ({path.name})" for (w, h), path in sizes.items())
        raise UserError(
            f"the pictures of {name} have several sizes: {told}; bring them to one, as "
            "raters and metrics would notice"
        )
    return next(iter(sizes))


def _tile(files: Sequence[Path]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a prompt's samples as a square, row by row."""
    columns = math.ceil(len(files) ** 0.5)
    canvas = np.full((TILE * columns, TILE * columns, 3), 255, np.uint8)
    for number, file in enumerate(files):
        y, x = (TILE * k for k in divmod(number, columns))
        image = Image.fromarray(read_picture(file))
        small = image.resize((TILE, TILE), Image.Resampling.LANCZOS)
        canvas[y : y + TILE, x : x + TILE] = np.asarray(small)
    return canvas
