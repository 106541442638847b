"""A study's prompts and pictures, as they are on the disk now.

Quality and alignment: `FOLDER/NAME.png` (or any other format) for every row of
prompts.csv. DrawBench: `FOLDER/NAME/`, with 8 pictures. Both folders must hold exactly
the names of prompts.csv. Its columns are `name,prompt,category`; without `name` the
rows are called 00000, 00001 and so on, as `imagen_jax.sample` names its pictures, and
without `category` there is one.

Each picture is known by the SHA-256 of its file. When a study is first served they are
written down, and from then on a picture that changed is noticed.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.data.images import SUFFIXES, decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.raters.controls import CONTROLS_FILE, Control, Picture, read_controls
from imagen_jax.raters.prompts import read_prompts, read_rows
from imagen_jax.raters.settings import SIDES, Settings, read_settings

SET_SIZE = 8
"""Pictures of each system for one DrawBench prompt."""


@dataclasses.dataclass(frozen=True)
class Item:
    """A prompt with the pictures of both systems.

    Attributes:
      name: what its files are called.
      prompt: the caption.
      category: of DrawBench; "" where there are none.
      pictures: of each system, 1 picture or `SET_SIZE`.
    """

    name: str
    prompt: str
    category: str
    pictures: tuple[tuple[Picture, ...], tuple[Picture, ...]]


@dataclasses.dataclass(frozen=True)
class Study:
    """All that raters can be shown.

    Attributes:
      folder: of the study.
      settings: study.toml.
      items: the drawn pairs, in the order of prompts.csv.
      controls: all of controls.csv.
    """

    folder: Path
    settings: Settings
    items: tuple[Item, ...]
    controls: tuple[Control, ...]

    def manifest(self) -> dict[str, Any]:
        """Returns the study as JSON values; equal if and only if nothing changed."""
        return {
            "settings": _plain(dataclasses.asdict(self.settings)),
            "items": [_plain(dataclasses.asdict(item)) for item in self.items],
            "controls": [_plain(dataclasses.asdict(c)) for c in self.controls],
        }


def read_study(folder: Path) -> Study:
    """Returns the study in `folder`; its pictures are hashed, not decoded.

    Raises:
      UserError: if anything is missing, or the two folders do not hold the pictures
        that prompts.csv names.
    """
    settings = read_settings(folder)
    rows = read_prompts(folder / settings.prompts)
    files = [
        _find_pictures(folder, system.folder, [row["name"] for row in rows], settings)
        for system in settings.systems
    ]
    items = tuple(
        Item(
            name=rows[i]["name"],
            prompt=rows[i]["prompt"],
            category=rows[i]["category"],
            pictures=(
                tuple(read_picture(folder, file) for file in files[0][rows[i]["name"]]),
                tuple(read_picture(folder, file) for file in files[1][rows[i]["name"]]),
            ),
        )
        for i in _draw_rows(settings, len(rows))
    )
    return Study(folder, settings, items, _controls_of(folder, settings))


def check_pictures(study: Study) -> None:
    """Decodes every picture; those of one trial must be of one size.

    Raises:
      UserError: that names the first picture which is damaged, or whose size would
        tell a rater which system it is from.
    """
    groups = [(*item.pictures[0], *item.pictures[1]) for item in study.items]
    groups += [control.pictures for control in study.controls]
    for group in groups:
        sizes = {}
        for picture in group:
            path = study.folder / picture.file
            try:
                height, width, _ = decode(path.read_bytes()).shape
            except (OSError, BadRecordError) as error:
                raise UserError(
                    f"the picture {path} cannot be read ({error}); replace it"
                ) from error
            sizes.setdefault((width, height), path)
        if len(sizes) > 1:
            (first, path), (second, other) = list(sizes.items())[:2]
            raise UserError(
                f"{path} has {first[0]} x {first[1]} pixels and {other} "
                f"{second[0]} x {second[1]}; a rater would tell them apart, so bring "
                "the pictures of both systems to one size"
            )


def list_references(folder: Path) -> tuple[Settings, list[tuple[str, str]]]:
    """Returns the settings, and (picture, prompt) of the reference to make controls of.

    Pairs that the study does not rate come first, in random order.

    Raises:
      UserError: as `read_study`, or if the study is of a kind without controls.
    """
    settings = read_settings(folder)
    if settings.kind == "drawbench":
        raise UserError(
            "a DrawBench study has no control trials (the paper did not filter its "
            "raters); serve it as it is"
        )
    rows = read_prompts(folder / settings.prompts)
    names = [row["name"] for row in rows]
    files = _find_pictures(folder, settings.systems[1].folder, names, settings)
    drawn = set(_draw_rows(settings, len(rows)))
    order = np.random.default_rng([settings.seed, 4]).permutation(len(rows))
    order = sorted(order.tolist(), key=lambda i: i in drawn)
    return settings, [(files[names[i]][0], rows[i]["prompt"]) for i in order]


def _draw_rows(settings: Settings, num_rows: int) -> list[int]:
    """Returns the rows of prompts.csv that are rated, in their order."""
    rng = np.random.default_rng([settings.seed, 0])
    num = min(settings.num_pairs, num_rows)
    return sorted(rng.choice(num_rows, num, replace=False).tolist())


def read_picture(folder: Path, file: str) -> Picture:
    """Returns a picture with the hash of its bytes.

    Args:
      folder: of the study.
      file: its path, in the study's folder or absolute.
    """
    try:
        data = (folder / file).read_bytes()
    except OSError as error:
        raise UserError(
            f"the picture {folder / file} cannot be read ({error.strerror})"
        ) from error
    return Picture(file, hashlib.sha256(data).hexdigest())


def _controls_of(folder: Path, settings: Settings) -> tuple[Control, ...]:
    """Returns the controls of a study, enough of them for one rater."""
    if not settings.num_controls:
        return ()
    path = folder / CONTROLS_FILE
    if not path.exists():
        raise UserError(
            f"there is no {path}; make one by `python -m imagen_jax.raters controls "
            f"--study={folder}`, or set num_controls = 0 in study.toml to keep every "
            "rater"
        )
    columns = ("right", "wrong")
    if settings.kind == "alignment":
        columns = ("picture", "prompt", "accepted")
    rows = read_rows(path, needs=columns)
    if len(rows) < settings.num_controls:
        raise UserError(
            f"{path} has {len(rows)} rows, and num_controls in study.toml is "
            f"{settings.num_controls}; a rater sees no control twice, so add rows or "
            "ask for fewer"
        )
    return read_controls(path, rows, lambda file: read_picture(folder, file))


def _find_pictures(
    folder: Path, pictures_dir: str, names: list[str], settings: Settings
) -> dict[str, list[str]]:
    """Returns the picture files of each name: one, or `SET_SIZE`."""
    root = folder / pictures_dir
    is_set = settings.kind == "drawbench"
    found: dict[str, list[str]] = {}
    for entry in _list(root, settings):
        if is_set and entry.is_dir():
            files = [e for e in _list(entry, settings) if _is_picture(e)]
            found[entry.name] = [_inside(root, file, pictures_dir) for file in files]
            if len(files) != SET_SIZE:
                raise UserError(
                    f"{entry} holds {len(files)} pictures; a DrawBench set has "
                    f"{SET_SIZE}"
                )
        elif not is_set and _is_picture(entry):
            if entry.stem in found:
                raise UserError(
                    f"{root} has two pictures called {entry.stem}; keep one of them"
                )
            found[entry.stem] = [_inside(root, entry, pictures_dir)]
    missing, extra = set(names) - set(found), set(found) - set(names)
    if missing or extra:
        one = min(missing or extra)
        lack = f"none for {one}" if missing else f"{one}, which is not in the CSV"
        raise UserError(
            f"{root} has pictures for {len(found)} names and {settings.prompts} has "
            f"{len(names)} rows; there is {lack}: both folders must hold exactly the "
            f"names of {settings.prompts}"
        )
    return found


def _list(root: Path, settings: Settings) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except OSError as error:
        raise UserError(
            f"cannot read the folder {root} ({error.strerror}); study.toml names it "
            f"in [{'] or ['.join(SIDES[settings.kind])}]"
        ) from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _inside(root: Path, path: Path, pictures_dir: str) -> str:
    """Returns the picture's path as kept, if it is no link that leads elsewhere."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{path} is a link to a file outside {root}; put a copy in its place"
        )
    return (Path(pictures_dir) / path.relative_to(root)).as_posix()


def _plain(value: Any) -> Any:
    """Returns dicts, lists and plain values, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
