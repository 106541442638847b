"""The strict way from a config file and overrides to a `StageConfig`.

A config file (`configs/*.py`) has `get_config() -> ConfigDict` and names only what
differs from the defaults in `imagen_jax.config`. An unknown key or a value of the wrong
type is one `UserError` that lists what is allowed. A run writes its resolved settings
to `workdir/config.json`; sampling and evaluation read that, never configs/.
"""

import ast
import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from imagen_jax.config import StageConfig
from imagen_jax.errors import UserError


def load_config(path: str, overrides: Sequence[str] = ()) -> StageConfig:
    """Returns the settings of a config file with overrides applied.

    Args:
      path: a Python file with `get_config()`, or "FILE:ARG" for `get_config(ARG)`.
      overrides: "a.b=value" strings, the value as Python would read it (bare words are
        strings).

    Raises:
      UserError: no such file, no get_config, an unknown key, a wrong type, levels that
        do not match.
    """
    tree = _run_config_file(path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"override {override!r} has no value; write key=value")
        _override(tree, key, text)
    return from_dict(tree)


def from_dict(tree: Mapping[str, Any]) -> StageConfig:
    """Returns the StageConfig that a (nested) mapping describes, strictly.

    Raises:
      UserError: an unknown key, a wrong type, or settings that do not fit together.
    """
    return _build(StageConfig, tree, "")


def to_dict(config: StageConfig) -> dict[str, Any]:
    """Returns the settings as plain dicts, lists and scalars, complete."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read_config(path: Path) -> StageConfig:
    """Returns the settings that a run wrote to `workdir/config.json`.

    Raises:
      UserError: it cannot be read, or holds settings that this version does not know.
    """
    try:
        tree = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give the workdir of a training "
            "run"
        ) from error
    except ValueError as error:  # not JSON, or not even text
        raise UserError(
            f"{path} is not valid JSON ({error}); copy it again, or train anew in "
            "another --workdir"
        ) from error
    try:
        return _build(StageConfig, tree, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _run_config_file(path: str) -> dict[str, Any]:
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        raise UserError(f"--config={path}: no such file; see the folder configs/")
    spec = importlib.util.spec_from_file_location("imagen_jax_config_file", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
        return config.to_dict()
    except Exception as error:
        raise UserError(
            f"--config={path} could not be run: {type(error).__name__}: {error}"
        ) from error


def _override(tree: dict[str, Any], key: str, text: str) -> None:
    """Sets one dotted key; keys that the file leaves at their default are welcome."""
    *parents, leaf = key.split(".")
    node = tree
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise UserError(f"override {key}={text}: {name} has no fields")
    try:
        node[leaf] = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        node[leaf] = {"true": True, "false": False}.get(text.lower(), text)


def _build(cls: type, tree: Any, path: str) -> Any:
    if not isinstance(tree, Mapping):
        raise UserError(f"{path or 'config'} is {tree!r}; it must be a group of keys")
    hints = typing.get_type_hints(cls)
    for key in tree:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(
                f"unknown config key {_join(path, key)!r}{hint} "
                f"The keys here are: {', '.join(hints)}"
            )
    values = {
        key: _convert(hints[key], value, _join(path, key))
        for key, value in tree.items()
    }
    return cls(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Returns `value` as the type `hint`, or raises a UserError that names `path`."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # only network is a union
        kinds = {cls.__dataclass_fields__["kind"].default: cls for cls in args}
        kind = value.get("kind", "unet") if isinstance(value, Mapping) else "unet"
        if kind not in list(kinds):  # a list, because `kind` may be unhashable
            raise UserError(f"{path}.kind is {kind!r}; it must be one of {list(kinds)}")
        return _build(kinds[kind], value, path)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{path} is {value!r}; it must be one of {list(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{path} is {value!r}; it must be a list")
        return tuple(_convert(args[0], item, path) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{path} is {value!r}; it must be of type {hint.__name__}")
    return value


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
