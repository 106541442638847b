"""What a visitor asks for, checked before it takes a place in the queue.

The page and the REST endpoint hand in the same fields; docs/app.md lists them.
"""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.sampling.editing import NEW, Editing, check_editing
from imagen_jax.sampling.plan import MAX_SEED

MAX_GUIDANCE = 100.0
FIELDS = (
    "prompt",
    "negative",
    "seeds",
    "guidance",
    "steps",
    "aug_level",
    "picture",
    "mask",
    "strength",
    "other_seed",
)


class Limits(NamedTuple):
    """What one request may ask for.

    Attributes:
      num_stages: of the cascade.
      steps: numbers of sampler steps; the stages are compiled anew for each.
      num_pictures: at most.
      num_letters: of a prompt, at most.
      num_bytes: of a request, pictures in it included, at most.
    """

    num_stages: int
    steps: tuple[int, ...]
    num_pictures: int = 4
    num_letters: int = 1000
    num_bytes: int = 16 * 2**20


class Request(NamedTuple):
    """Pictures to draw.

    Attributes:
      prompt: "" is the null text.
      negative: "" is the null text.
      seeds: one per picture.
      options: guidance, steps and aug_level as `Pipeline.plan` takes them.
      editing: pictures in it are of any size; None draws plainly.
    """

    prompt: str
    negative: str
    seeds: tuple[int, ...]
    options: dict[str, Any]
    editing: Editing | None


def read_request(fields: Any, limits: Limits) -> Request:
    """Returns a request.

    Args:
      fields: a JSON object, or what is none. `picture` and `mask` are files in base64,
        or arrays as `decode` gives them.
      limits: what is allowed.

    Raises:
      UserError: naming the field that is wrong.
    """
    if not isinstance(fields, Mapping):
        raise UserError(
            f"the request is {_shown(fields)}; it must be an object such as "
            '{"prompt": "a panda"}'
        )
    for name in fields:
        if name not in FIELDS:
            raise UserError(
                f"there is no field {_shown(name)}; they are {', '.join(FIELDS)}"
            )
    if "prompt" not in fields:
        raise UserError('the field prompt is missing; "" draws without a prompt')
    given = {name: value for name, value in fields.items() if value is not None}
    checks = {
        "guidance": _check_guidance,
        "steps": lambda name, value: _check_steps(name, value, limits.steps),
        "aug_level": _check_share,
    }
    options = {
        name: _per_stage(name, given[name], check, limits.num_stages)
        for name, check in checks.items()
        if name in given
    }
    seeds = _read_seeds(given.get("seeds", 0), limits.num_pictures)
    return Request(
        _read_text("prompt", fields["prompt"], limits.num_letters),
        _read_text("negative", given.get("negative", ""), limits.num_letters),
        seeds,
        options,
        _read_editing(given, len(seeds)),
    )


def _read_text(name: str, value: Any, num_letters: int) -> str:
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        raise UserError(f"{name} is {_shown(value)}; it must be a text")
    if len(value) > num_letters:
        raise UserError(
            f"{name} has {len(value)} letters; it may have {num_letters} at most"
        )
    return value


def _read_seeds(value: Any, num_pictures: int) -> tuple[int, ...]:
    seeds = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(seeds) <= num_pictures:
        raise UserError(
            f"seeds has {len(seeds)} entries; a request draws 1 to {num_pictures} "
            "pictures, one for each seed"
        )
    for seed in seeds:
        _check_seed("seeds", seed)
    return tuple(seeds)


def _read_editing(given: Mapping[str, Any], num: int) -> Editing | None:
    """Returns the edit that the fields ask for, or None."""
    names = ("picture", "mask", "strength", "other_seed")
    if not any(name in given for name in names):
        return None
    picture = mask = mix = None
    if "picture" in given:
        picture = _read_picture("picture", given["picture"])
    elif alone := {"mask", "strength"} & given.keys():
        raise UserError(
            f"{' and '.join(sorted(alone))} given and no picture; give the picture too"
        )
    if "mask" in given:
        mask = _read_picture("mask", given["mask"]).mean(axis=-1) >= NEW
    strength = given.get("strength", 1.0)
    _check_share("strength", strength)
    if "other_seed" in given:
        _check_seed("other_seed", given["other_seed"])
        if num < 2:
            raise UserError(
                "other_seed is given and seeds has 1 entry; variations need 2 or more "
                "pictures, e.g. seeds [3, 3, 3]"
            )
        shares = np.linspace(0.0, 1.0, num, dtype=np.float32)
        mix = (np.full(num, given["other_seed"]), shares)
    editing = Editing(picture, mask, float(strength), mix=mix)
    check_editing(editing)
    return editing


def _read_picture(name: str, value: Any) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, str):
        raise UserError(
            f"{name} is {_shown(value)}; it must be a PNG, JPEG or WebP file in base64"
        )
    try:
        return decode(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError, BadRecordError) as error:
        raise UserError(
            f"{name} cannot be read: {error}; give a PNG, JPEG or WebP file in base64"
        ) from error


def _per_stage(
    name: str, value: Any, check: Callable[[str, Any], None], num_stages: int
) -> Any:
    """Returns one value for all stages or a list of one each, checked."""
    is_list = isinstance(value, list | tuple)
    if is_list and len(value) != num_stages:
        raise UserError(
            f"{name} has {len(value)} values; give one, or {num_stages}, one per stage"
        )
    for entry in value if is_list else [value]:
        if not (is_list and entry is None):  # None leaves the stage's own
            check(name, entry)
    return list(value) if is_list else value


def _check_guidance(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= MAX_GUIDANCE:
        raise UserError(
            f"{name} is {_shown(value)}; it must be a number from 0 to "
            f"{MAX_GUIDANCE:g}, 1 = none"
        )


def _check_steps(name: str, value: Any, allowed: Sequence[int]) -> None:
    if type(value) is not int or value not in allowed:
        raise UserError(
            f"{name} is {_shown(value)}; it must be {_listed(allowed)}, or left out "
            "for the stages' own"
        )


def _check_share(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise UserError(f"{name} is {_shown(value)}; it must be a number from 0 to 1")


def _check_seed(name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise UserError(
            f"{name} is {_shown(value)}; a seed is a whole number from 0 to {MAX_SEED}"
        )


def _listed(numbers: Sequence[int]) -> str:
    *head, last = map(str, numbers)
    return f"{', '.join(head)} or {last}" if head else last


def _shown(value: Any) -> str:
    """Returns a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
