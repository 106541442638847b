"""The settings of a study: `study.toml`, read strictly.

kind = "quality"            # or "alignment", "drawbench"
title = "Which picture looks more real?"
contact = "name@example.org"

[model]                     # of a DrawBench study: [a] and [b]
name = "Imagen"             # in the report only: raters never see it
folder = "model"            # in the study's folder, or anywhere

[reference]
name = "reference"
folder = "reference"
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError

SIDES = {
    "quality": ("model", "reference"),
    "alignment": ("model", "reference"),
    "drawbench": ("a", "b"),
}
"""The two tables of pictures that each kind of study has in study.toml."""

_PREFER = ("1", "same", "2")

QUESTIONS = {
    "quality": {"quality": ("1", "2")},
    "alignment": {"alignment": ("yes", "somewhat", "no")},
    "drawbench": {"fidelity": _PREFER, "alignment": _PREFER},
}
"""The questions of each kind and their answers, as a rater gives them.

1 and 2 are what stands first and second on the page, not the systems.
"""

CONSENT = (
    "Taking part is voluntary. You can stop at any time by closing the page; what you "
    "answered until then is kept. We store your answers and when you gave them, and "
    "nothing that tells who you are. The answers are used to compare pictures, and "
    "summaries of them may be published."
)


@dataclasses.dataclass(frozen=True)
class System:
    """What made the pictures of one side.

    Attributes:
      name: in the report; raters never see it.
      folder: of its pictures, as written in study.toml.
    """

    name: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """All of study.toml.

    Attributes:
      kind: "quality" (which of two pictures looks more real), "alignment" (does the
        caption describe the picture) or "drawbench" (two sets of 8 pictures).
      systems: the model and the reference; of a DrawBench study, a and b.
      title: heading of the first page.
      contact: whom raters can ask, e.g. a mail address.
      consent: what raters agree to, plain text.
      prompts: the CSV file, in the study's folder.
      seed: of the drawn pairs, and of each rater's order and sides.
      num_pairs: at most so many pairs are rated, drawn at random.
      batch: at most so many pairs go to one rater.
      num_controls: control trials among them. A DrawBench study has none: the paper
        did not filter its raters.
    """

    kind: str
    systems: tuple[System, System]
    title: str = "Looking at pictures"
    contact: str = ""
    consent: str = CONSENT
    prompts: str = "prompts.csv"
    seed: int = 0
    num_pairs: int = 200
    batch: int = 50
    num_controls: int = 10


_TEXTS = ("title", "contact", "consent", "prompts")
_LEAST = {"seed": 0, "num_pairs": 1, "batch": 1, "num_controls": 0}


def read_settings(folder: Path) -> Settings:
    """Returns the settings of the study in `folder`.

    Raises:
      UserError: if the file is missing, is not TOML, or has a key or value that is not
        allowed.
    """
    path = folder / "study.toml"
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); a study is a folder with "
            "study.toml, prompts.csv and pictures, see docs/raters.md"
        ) from error
    except ValueError as error:  # not TOML, not UTF-8
        raise UserError(f"{path} is not a TOML file: {error}") from error
    kind = raw.pop("kind", None)
    if kind not in SIDES:
        raise UserError(
            f"{path}: kind is {kind!r}; it must be one of {', '.join(SIDES)}"
        )
    sides = SIDES[kind]
    known = [*sides, *_TEXTS, *_LEAST]
    if unknown := sorted(set(raw) - set(known)):
        raise UserError(
            f"{path}: unknown key {unknown[0]}; a study of kind {kind} knows kind, "
            f"{', '.join(known)}"
        )
    systems = tuple(_read_system(path, side, raw.pop(side, None)) for side in sides)
    if systems[0].name == systems[1].name:
        raise UserError(
            f"{path}: {sides[0]} and {sides[1]} are both named {systems[0].name!r}; "
            "the report needs two names"
        )
    values = {key: _checked(path, key, value) for key, value in raw.items()}
    if kind == "drawbench":
        if values.get("num_controls"):
            raise UserError(
                f"{path}: num_controls is {values['num_controls']}, but a DrawBench "
                "study has no control trials (the paper did not filter its raters); "
                "leave it out"
            )
        values["num_controls"] = 0
    return Settings(kind=kind, systems=(systems[0], systems[1]), **values)


def _checked(path: Path, key: str, value: Any) -> Any:
    """Returns the value of a plain key if it is allowed."""
    if key in _TEXTS:
        if isinstance(value, str):
            return value
        raise UserError(f"{path}: {key} is {value!r}; it must be a text in quotes")
    if type(value) is not int or value < _LEAST[key]:
        raise UserError(
            f"{path}: {key} is {value!r}; it must be a whole number of at least "
            f"{_LEAST[key]}"
        )
    return value


def _read_system(path: Path, side: str, raw: Any) -> System:
    """Returns one side's table of study.toml."""
    if (
        not isinstance(raw, dict)
        or set(raw) != {"name", "folder"}
        or not all(isinstance(value, str) and value for value in raw.values())
    ):
        raise UserError(
            f"{path}: the table [{side}] must have the two texts name and folder"
        )
    return System(**raw)
