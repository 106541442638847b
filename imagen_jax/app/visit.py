"""One visit to the page: what its controls ask for, and what it keeps."""

import html
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from imagen_jax.app.events import View
from imagen_jax.app.studio import Drawn
from imagen_jax.sampling.plan import MAX_SEED

HISTORY = 60  # pictures that a visit remembers


class Session(NamedTuple):
    """What the page keeps of one visit.

    Attributes:
      folders: with the visit's files.
      pictures: (file, caption), the newest first.
    """

    folders: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()


def common_fields(asked: Mapping[str, Any], num_stages: int) -> dict[str, Any]:
    """Returns a request's fields from the values of `Controls`.

    Args:
      asked: by name of the control.
      num_stages: of the cascade. The guidance is the first stage's; the others keep
        their own.
    """
    first = int(asked["seed"] or 0)
    num = int(asked["num"])
    return {
        "prompt": asked["prompt"],
        "negative": asked["negative"],
        "seeds": [(first + i) % (MAX_SEED + 1) for i in range(num)],
        "guidance": [asked["guidance"], *[None] * (num_stages - 1)],
        "steps": asked["steps"] or None,
    }


def plain_fields(common: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of plain drawing."""
    return common


def edit_fields(
    common: dict[str, Any], drawing: Mapping[str, Any] | None, strength: int | float
) -> dict[str, Any]:
    """Returns the fields of an edit.

    Args:
      common: from `common_fields`.
      drawing: the editor's value; what is painted in its layers is the mask.
      strength: time in [0, 1].
    """
    picture, mask = None, None
    if drawing and drawing["background"] is not None:
        picture = np.ascontiguousarray(drawing["background"][..., :3])
        mask = _painted(drawing["layers"])
    return {**common, "picture": picture, "mask": mask, "strength": strength}


def between_fields(
    common: dict[str, Any], other_seed: int | float | None
) -> dict[str, Any]:
    """Returns the fields of pictures between two seeds."""
    seeds = [common["seeds"][0]] * max(len(common["seeds"]), 2)
    return {**common, "seeds": seeds, "other_seed": int(other_seed or 0)}


def _painted(
    layers: list[Shaped[np.ndarray, "h w 4"]],
) -> Shaped[np.ndarray, "h w 3"] | None:
    """Returns white where a layer is painted; None if none is."""
    opaque = [layer[..., 3] > 0 for layer in layers]
    if not opaque or not np.any(opaque):
        return None
    painted = np.any(opaque, axis=0)
    return np.repeat(painted[..., None], 3, axis=-1).astype(np.uint8) * 255


def remember(session: Session, drawn: Drawn, prompt: str) -> Session:
    """Returns the session with a request's pictures in front."""
    new = tuple(
        (str(file), f"{prompt} · seed {recipe.seed}")
        for file, recipe in zip(drawn.stages[-1], drawn.recipes, strict=True)
    )
    return Session(
        (*session.folders, str(drawn.folder)),
        (new + session.pictures)[:HISTORY],
    )


def forget(session: Session) -> None:
    """Removes the files of a visit that has ended."""
    for folder in session.folders:
        shutil.rmtree(folder, ignore_errors=True)


def show_status(sizes: list[int], view: View) -> str:
    """Returns the HTML of where a request is: a mark for each stage, and a sentence."""
    is_done = view.drawn is not None
    marks = []
    for i, size in enumerate(sizes):
        state = "todo"
        if is_done or (view.stage is not None and i < view.stage):
            state = "done"
        elif view.stage == i:
            state = "now"
        marks.append(f'<li class="{state}">{size}</li>')
    role = "alert" if view.is_refused else "status"
    text = html.escape(capital(view.text))
    return f'<ol class="stages">{"".join(marks)}</ol><p role="{role}">{text}</p>'


def caption(file: Path) -> str:
    """Returns a file's seed and size, which its name has; see `Studio`."""
    _, seed, _, size = file.stem.rsplit("_", 3)
    return f"seed {seed} · {size.removesuffix('px')} px"


def capital(text: str) -> str:
    """Returns a sentence with its first letter large."""
    return text[:1].upper() + text[1:]
