"""The sampler settings that a user chooses anew: one value, or one per stage.

    guidance_weight=3        3 for every stage
    guidance_weight=[3, 1]   3 for the base, 1 for the stage above
    guidance_weight=[3, None]  3 for the base, the stage's own for the one above

A setting that is a list itself (`times`, `spacing_limits`, `guidance_interval`) has one
per stage where its entries are lists again. On the command line, `read_choice`, values
are separated by commas and such lists stand in parentheses.
"""

import ast
import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from imagen_jax.config import StageConfig
from imagen_jax.config_file import from_dict, to_dict
from imagen_jax.errors import UserError
from imagen_jax.sampler_config import SamplerConfig

FIELDS = {field.name: field.default for field in dataclasses.fields(SamplerConfig)}


def choose_samplers(
    configs: Sequence[StageConfig], choices: Mapping[str, Any]
) -> tuple[SamplerConfig, ...]:
    """Returns each stage's sampler settings with the choices in place of its own.

    Args:
      configs: of the stages, from the base up.
      choices: values by field of `SamplerConfig`, see above; None leaves a field.

    Raises:
      UserError: an unknown field, another number of values than stages, or a value
        that is not allowed.
    """
    changes: list[dict[str, Any]] = [{} for _ in configs]
    for name, value in choices.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(
                f"unknown sampler setting {name!r}{hint} They are: {', '.join(FIELDS)}"
            )
        for change, own in zip(
            changes, _per_stage(name, value, len(configs)), strict=True
        ):
            if own is not None:
                change[name] = own
    return tuple(
        _changed(config, change)
        for config, change in zip(configs, changes, strict=True)
    )


def read_choice(text: str) -> Any:
    """Returns the value that a flag's text means: one, or a list with one per stage.

    Args:
      text: such as "3", "3,1", "none,dynamic" or "(-3,5),()"; "own" is None.
    """
    # A comma inside parentheses separates nothing.
    parts = re.split(r",(?![^(\[]*[)\]])", text)
    values = [_literal(part.strip()) for part in parts]
    return values if len(values) > 1 else values[0]


def _literal(text: str) -> Any:
    if text == "own":
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _per_stage(name: str, value: Any, num_stages: int) -> Sequence[Any]:
    """Returns a value per stage."""
    is_list = isinstance(value, (list, tuple))
    if isinstance(FIELDS[name], tuple) and is_list:
        is_list = any(isinstance(entry, (list, tuple)) for entry in value)
    if not is_list:
        return [value] * num_stages
    if len(value) != num_stages:
        raise UserError(
            f"{name} has {len(value)} values, {', '.join(map(repr, value))}; it must "
            f"be one, or {num_stages} by commas, one per stage"
        )
    return value


def _changed(config: StageConfig, change: Mapping[str, Any]) -> SamplerConfig:
    """Returns a stage's sampler settings with some replaced, types and all checked."""
    tree = to_dict(config)
    # More than it was trained with is a user's right: a sweep shows what it does.
    tree["diffusion"]["aug_level_max"] = 1.0
    tree["sampler"].update(change)
    try:
        return from_dict(tree).sampler
    except UserError as error:
        raise UserError(f"stage {config.name}: {error}") from error
