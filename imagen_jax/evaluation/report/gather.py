"""What a run and its evaluation have left on disk, for the report's page.

Nothing here stops the report: what is missing or cannot be read becomes a sentence in
`notes`, and the page says it.
"""

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from imagen_jax.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_JSON = 4_000_000  # bytes; a larger file is data, not a result
MAX_TEXT = 100_000  # bytes of a Markdown file
MAX_FILES = 40  # of a kind in a folder
PREVIEWS = 4  # of a run: the first, the last and some between
PICTURE_BYTES = 3_000_000  # of all pictures of a page
MAX_PICTURE_BYTES = 400_000
SIDE = 1200  # longest side of a picture on the page, in pixels
NOT_RESULTS = ("config.json", "bundle.json", "wandb_run.json", "manifest.json")


class Picture(NamedTuple):
    """A picture for the page.

    Attributes:
      name: of its file.
      data: a data: URL.
      width: in pixels.
      height: in pixels.
    """

    name: str
    data: str
    width: int
    height: int


class Run(NamedTuple):
    """A training run.

    Attributes:
      name: of the folder.
      config: its config.json; {} where there is none.
      curves: (step, value) by the metric's name, finite values only.
      not_finite: how many values of each metric were not.
      previews: from the first to the last.
      notes: what is missing or corrupt, a sentence each.
    """

    name: str
    config: dict[str, Any]
    curves: dict[str, list[tuple[float, float]]]
    not_finite: dict[str, int]
    previews: list[Picture]
    notes: list[str]


class Folder(NamedTuple):
    """What evaluation has left in a folder.

    Attributes:
      name: of the folder.
      results: JSON by the file's name.
      texts: Markdown by the file's name.
      pictures: sheets and grids.
      notes: what is missing or corrupt, a sentence each.
    """

    name: str
    results: dict[str, Any]
    texts: dict[str, str]
    pictures: list[Picture]
    notes: list[str]


class Room:
    """Bytes that the page's pictures may still take."""

    def __init__(self, left: int = PICTURE_BYTES):
        """Begins with `left` bytes."""
        self.left = left

    def picture(self, path: Path, notes: list[str]) -> Picture | None:
        """Returns a picture scaled for the page; None, and a note, if there is none."""
        try:
            with Image.open(path) as image:
                image.load()
                picture = image.convert("RGB")
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:
            notes.append(
                f"{path.name} is corrupt: {type(error).__name__} when it was decoded"
            )
            return None
        allowed = min(MAX_PICTURE_BYTES, self.left)
        for side in (SIDE, SIDE // 2, SIDE // 4):
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            data = _encoded(picture)
            if len(data) <= allowed:
                self.left -= len(data)
                text = base64.b64encode(data).decode()
                return Picture(
                    path.name, f"data:image/webp;base64,{text}", *picture.size
                )
        notes.append(f"{path.name} is left out: the page has no room for more pictures")
        return None


def gather_run(path: Path, room: Room) -> Run:
    """Returns what a workdir holds.

    Args:
      path: of the workdir.
      room: for its previews.

    Raises:
      UserError: it is no workdir.
    """
    if not (path / "config.json").is_file() and not (path / "metrics.jsonl").is_file():
        raise UserError(
            f"{path} is no workdir: it has neither config.json nor metrics.jsonl; give "
            "the folder of a training run to --workdir"
        )
    notes: list[str] = []
    config = _read_json(path / "config.json", notes)
    if not isinstance(config, dict):
        notes.append("config.json is missing or holds no settings")
        config = {}
    curves, not_finite = _read_metrics(path / "metrics.jsonl", notes)
    files = sorted((path / "previews").glob("*.png"))
    if not files:
        notes.append("there are no previews")
    last = max(len(files) - 1, 1)
    chosen = {round(i * (len(files) - 1) / (PREVIEWS - 1)) for i in range(PREVIEWS)}
    shown = [files[i] for i in sorted(chosen) if 0 <= i <= last] if files else []
    previews = [room.picture(file, notes) for file in shown]
    name = path.resolve().name
    return Run(name, config, curves, not_finite, [*filter(None, previews)], notes)


def gather_folder(path: Path, room: Room) -> Folder:
    """Returns what evaluation has left in a folder, not in its subfolders.

    Args:
      path: of the folder.
      room: for its pictures.

    Raises:
      UserError: it is no folder.
    """
    if not path.is_dir():
        raise UserError(
            f"--folder={path} is not a folder; give one that an evaluate job has "
            "written"
        )
    notes: list[str] = []
    results, texts = {}, {}
    for file in _files(path, (".json",), notes):
        if file.name not in NOT_RESULTS and file.stat().st_size <= MAX_JSON:
            result = _read_json(file, notes)
            if result is not None:
                results[file.name] = result
    for file in _files(path, (".md",), notes):
        try:
            texts[file.name] = file.read_text("utf-8")[:MAX_TEXT]
        except (OSError, UnicodeDecodeError) as error:
            notes.append(f"{file.name} is corrupt: {error}")
    pictures = [room.picture(file, notes) for file in _files(path, PICTURES, notes)]
    if not (results or texts or any(pictures)):
        notes.append("nothing in it can be shown: no JSON, Markdown or picture")
    name = path.resolve().name
    return Folder(name, results, texts, [*filter(None, pictures)], notes)


def _files(path: Path, endings: tuple[str, ...], notes: list[str]) -> list[Path]:
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in endings and file.is_file()
    )
    if len(found) > MAX_FILES:
        notes.append(
            f"{len(found)} {endings[0]} files; the first {MAX_FILES} are shown"
        )
    return found[:MAX_FILES]


def _read_json(path: Path, notes: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} is corrupt: {error}")
        return None


def _read_metrics(
    path: Path, notes: list[str]
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, int]]:
    """Returns finite values and the counts of others, by the metric's name."""
    curves: dict[str, list[tuple[float, float]]] = {}
    not_finite: dict[str, int] = {}
    if not path.is_file():
        notes.append("metrics.jsonl is missing: there are no curves")
        return curves, not_finite
    bad = 0
    for line in path.read_bytes().splitlines():
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            bad += 1
            continue
        for name, value in _numbers(values):
            if math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
            else:
                not_finite[name] = not_finite.get(name, 0) + 1
    if bad:
        notes.append(f"metrics.jsonl is corrupt; lines that cannot be read: {bad}")
    if not curves:
        notes.append("metrics.jsonl holds no figures: there are no curves")
    return curves, not_finite


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields the numbers of a line; null, which the loop writes for NaN, is NaN."""
    for name, value in values.items():
        if value is None:
            yield name, math.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()
