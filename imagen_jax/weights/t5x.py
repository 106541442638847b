"""Reads T5X checkpoints, the native format of the public T5 weights.

    checkpoint_STEP/checkpoint      msgpack: {"version", "optimizer": {"target", ...}}
    checkpoint_STEP/target.NAME/    an array in zarr, where the first file has a spec

A leaf of the tree `target` is either an array within the msgpack (flax's encoding, an
extension type) or a tensorstore spec with the path of its zarr folder, relative to the
checkpoint's. The driver and bucket that the spec records are where it was written, not
where it is now, hence ignored, as is the optimiser's state. Version 3 stores bfloat16
natively; version 2, before June 2021, stored its bits as uint16.

Arrays within the msgpack are held until the mapping is dropped; t5x puts only small
ones there. All others are read from disk one by one.

Source: t5x/checkpoints.py (commit cc342d4); flax/serialization.py.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np
import tensorstore

from imagen_jax.errors import UserError
from imagen_jax.weights.lazy import LazyTensors

VERSIONS = (2, 3)
_ARRAY_TYPES = (1, 3)  # of flax's msgpack extension: arrays and numpy scalars


class _Inline(NamedTuple):
    """An array within the msgpack, still packed."""

    kind: int
    packed: bytes


def open_t5x(folder: str | os.PathLike) -> LazyTensors:
    """Returns the model's arrays by T5X's names without "target/".

    Such as encoder/layers_0/attention/query/kernel. Whether layers are scanned shows
    in names and shapes only.

    Args:
      folder: the checkpoint's own, which holds the file `checkpoint`.

    Raises:
      UserError: if that file is missing, damaged or of another version, or if folders
        of arrays are missing; all of these are named.
    """
    folder = Path(folder).resolve()
    version, target = _read_target(folder / "checkpoint")
    reads = {}
    missing = []
    for name, leaf in _leaves(target):
        if isinstance(leaf, _Inline):
            reads[name] = partial(_read_inline, folder, name, leaf)
        elif (path := _zarr_path(folder, leaf)) is not None:
            reads[name] = partial(_read_zarr, path, version)
            if not (path / ".zarray").is_file():
                missing.append(path.name)
        else:
            raise UserError(
                f"{folder}: {name} is neither an array nor the spec of a zarr folder "
                "in here; give a checkpoint that t5x wrote without orbax"
            )
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of its folders, {', '.join(missing)}; copy "
            "the checkpoint again"
        )
    return LazyTensors(reads)


def _read_target(path: Path) -> tuple[int, dict[str, Any]]:
    """Returns the version and the tree of the parameters, arrays still packed."""
    try:
        tree = msgpack.unpackb(
            path.read_bytes(), raw=False, strict_map_key=False, ext_hook=_Inline
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not a complete T5X checkpoint ({error}); copy it again"
        ) from error
    version = tree.get("version", 0) if isinstance(tree, dict) else None
    if version not in VERSIONS:
        raise UserError(
            f"{path} is a T5X checkpoint of version {version}; versions that can be "
            f"read are {' and '.join(map(str, VERSIONS))}: load and save it with t5x"
        )
    optimizer = tree.get("optimizer")
    target = optimizer.get("target") if isinstance(optimizer, dict) else None
    if not isinstance(target, dict):
        raise UserError(f"{path} has no optimizer/target, a model's parameters")
    return version, target


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        is_spec = isinstance(value, dict) and {"driver", "metadata"} <= value.keys()
        if isinstance(value, dict) and not is_spec:
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _zarr_path(folder: Path, spec: Any) -> Path | None:
    """Returns the folder of a leaf's zarr; None if it names none inside `folder`."""
    if not isinstance(spec, dict):
        return None
    kvstore = spec.get("kvstore")
    name = kvstore.get("path") if isinstance(kvstore, dict) else None
    name = name or spec.get("path")  # very old files have it at the top
    if not isinstance(name, str) or spec["driver"] != "zarr":
        return None
    path = (folder / name).resolve()
    return path if folder in path.parents else None


def _read_inline(folder: Path, name: str, leaf: _Inline) -> np.ndarray:
    try:
        if leaf.kind not in _ARRAY_TYPES:
            raise ValueError(f"extension type {leaf.kind}")
        shape, dtype, data = msgpack.unpackb(leaf.packed, raw=True)
        if dtype == b"bfloat16":
            dtype = ml_dtypes.bfloat16
        else:
            dtype = dtype.decode()
        return np.frombuffer(data, dtype).reshape(shape).copy()
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}/checkpoint: the array {name} is damaged ({error}); copy the "
            "checkpoint again"
        ) from error


def _read_zarr(path: Path, version: int) -> np.ndarray:
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(path)},
        # A chunk that was not copied must not be read as zeros.
        "fill_missing_data_reads": False,
    }
    try:
        store = tensorstore.open(spec, open=True, read=True).result()
        array = store.read().result()
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{path} is not a complete zarr array ({error}); copy the checkpoint again"
        ) from error
    if version < 3 and array.dtype == np.uint16:
        return array.view(ml_dtypes.bfloat16)
    return array
