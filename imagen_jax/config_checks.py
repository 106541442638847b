"""What the settings in `imagen_jax.config` check of themselves.

Each function returns nothing, or raises a `UserError` that says the config key, what
was got and what is allowed. `group` is the key of the settings and a dot, e.g.
"train.", or "" for the stage's own fields.
"""

from collections.abc import Sequence
from typing import Any

from imagen_jax.errors import UserError


def check_levels(config: Any, first: str, others: Sequence[str]) -> None:
    """Checks that a network's lists are not empty and have one entry per level."""
    levels = len(getattr(config, first))
    if not levels:
        raise UserError(f"network.{first} is empty; give one entry per level")
    for name in others:
        if len(getattr(config, name)) != levels:
            raise UserError(
                f"network.{first} has {levels} levels, network.{name} "
                f"{len(getattr(config, name))}; they must match"
            )


def check_positive(group: str, config: Any, *names: str) -> None:
    """Checks that fields, or all entries of them, are greater than 0."""
    for name in names:
        value = getattr(config, name)
        if not all(entry > 0 for entry in _entries(value)):
            raise UserError(f"{group}{name} is {value}; it must be greater than 0")


def check_range(group: str, config: Any, low: int, high: int, *names: str) -> None:
    """Checks that fields, or all entries of them, are in [low, high]."""
    for name in names:
        value = getattr(config, name)
        if not all(low <= entry <= high for entry in _entries(value)):
            raise UserError(f"{group}{name} is {value}; it must be in [{low}, {high}]")


def check_share(group: str, config: Any, *names: str) -> None:
    """Checks that fields, or all entries of them, are in [0, 1), 1 excluded."""
    for name in names:
        value = getattr(config, name)
        if not all(0 <= entry < 1 for entry in _entries(value)):
            raise UserError(f"{group}{name} is {value}; it must be in [0, 1)")


def check_not_negative(group: str, config: Any, *names: str) -> None:
    """Checks that fields are at least 0."""
    for name in names:
        value = getattr(config, name)
        if not value >= 0:  # so written, NaN is refused too
            raise UserError(f"{group}{name} is {value}; it must be at least 0")


def check_less(group: str, config: Any, low: str, high: str) -> None:
    """Checks that field `low` is less than field `high`."""
    if not getattr(config, low) < getattr(config, high):
        raise UserError(
            f"{group}{low} is {getattr(config, low)}; it must be less than {high}, "
            f"{getattr(config, high)}"
        )


def check_divides_widths(
    config: Any, name: str, widths: Sequence[int], attention: Sequence[bool]
) -> None:
    """Checks that field `name` divides the width of every level with attention."""
    for width, attends in zip(widths, attention, strict=True):
        if attends and width % getattr(config, name):
            raise UserError(
                f"network.{name} is {getattr(config, name)}; it must divide the width "
                f"{width} of every level with attention"
            )


def _entries(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)
