"""Reads safetensors files, the format of the Hugging Face hub.

A file is a little-endian uint64, the length of a JSON header (name, type, shape,
offsets), then that header, then the raw tensors in C order without gaps, so reading
runs no code from the file, unlike a pickle.

Source: the format's description, https://github.com/huggingface/safetensors.
"""

import json
import math
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.weights.lazy import LazyTensors, read_array

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class _Place(NamedTuple):
    """Where a tensor stands: bytes from the start of the file, type and shape."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]


def open_safetensors(path: str | os.PathLike) -> LazyTensors:
    """Returns the tensors of the file by name; each is read when it is asked for.

    Args:
      path: the file; bfloat16 tensors come out as `ml_dtypes.bfloat16`.

    Raises:
      UserError: if the file is missing or is not a complete safetensors file, or has
        a tensor of a type that numpy has no counterpart of.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no weights file {path}; give a .safetensors file")
    try:
        places = _read_places(Path(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}); delete "
            "it and fetch it again"
        ) from error
    return LazyTensors(
        {name: partial(read_array, path, *place) for name, place in places.items()}
    )


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns every tensor of the file by its name, all at once; see the above."""
    return dict(open_safetensors(path))


def _read_places(path: Path) -> dict[str, _Place]:
    """Returns where each tensor stands.

    Raises:
      UserError: for an unknown type.
      ValueError, KeyError, TypeError, AttributeError: if the header is malformed or
        does not account for every byte of the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        if start > size or size < 8:
            raise ValueError(f"the header ends at byte {start} of {size}")
        header = json.loads(file.read(start - 8))
    header.pop("__metadata__", None)
    places = {}
    position = 0
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        begin, end = header[name]["data_offsets"]
        place = _place(path, name, header[name], start + begin)
        if begin != position or end - begin != (
            math.prod(place.shape) * place.dtype.itemsize
        ):
            raise ValueError(f"the offsets of {name} do not fit")
        places[name] = place
        position = end
    if start + position != size:
        raise ValueError(f"its tensors end at byte {start + position} of {size}")
    return places


def _place(path: Path, name: str, entry: dict[str, Any], offset: int) -> _Place:
    if entry["dtype"] not in _DTYPES:
        raise UserError(
            f"{path}: the tensor {name} has the type {entry['dtype']}; the types that "
            f"can be read are {', '.join(_DTYPES)}"
        )
    shape = tuple(entry["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name} has the shape {shape}")
    return _Place(offset, np.dtype(_DTYPES[entry["dtype"]]), shape)
