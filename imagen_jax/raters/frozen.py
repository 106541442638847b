"""A study stays what it was while raters are at work; else a sentence says why not."""

from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError


def check_unchanged(folder: Path, began: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises an error that names the first thing that changed since the study began.

    Args:
      folder: of the study.
      began: the manifest that is written down.
      now: the manifest of what is on the disk.

    Raises:
      UserError: if they differ.
    """
    if began == now:
        return
    raise UserError(
        f"the study in {folder} is not what it was when it was first served: "
        f"{_find_change(began, now)}; put it back, or begin a new study in another "
        "folder. The answers so far are kept, and `report` still reads them"
    )


def _find_change(began: dict[str, Any], now: dict[str, Any]) -> str:
    for key, value in began["settings"].items():
        if now["settings"].get(key) != value:
            return f"{key} was {value!r} and is {now['settings'].get(key)!r}"
    for part in ("items", "controls"):
        old = {entry["name"]: entry for entry in began[part]}
        new = {entry["name"]: entry for entry in now[part]}
        if differing := sorted(set(old) ^ set(new)):
            verb = "is missing from" if differing[0] in old else "is new in"
            return f"{differing[0]} {verb} the {part}"
        for name, entry in old.items():
            if entry != new[name]:
                return _find_change_of_entry(entry, new[name])
    return "its rows are in another order"


def _find_change_of_entry(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Returns what changed in one item or control."""
    for key in old:
        if key != "pictures" and old[key] != new[key]:
            return f"the {key} of {old['name']} was {old[key]!r} and is {new[key]!r}"
    before, after = _flat(old["pictures"]), _flat(new["pictures"])
    for picture in before:
        if picture not in after:
            return f"the picture {picture['file']} has changed"
    return f"the pictures of {old['name']} have changed"


def _flat(pictures: list[Any]) -> list[dict[str, str]]:
    """Returns pictures that may be in two groups as one list."""
    groups = [group if isinstance(group, list) else [group] for group in pictures]
    return [picture for group in groups for picture in group]
