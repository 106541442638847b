"""Opens a model's weights in whatever form they were published.

    transformers  a folder of the Hugging Face hub: one file, or an index and shards
    t5x           a checkpoint folder of T5X, or the folder above a single one

Of several forms in one folder the first of `WEIGHT_FILES` is taken: safetensors before
pickles. What the names mean is for the encoders to know.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.weights.lazy import LazyTensors
from imagen_jax.weights.safetensors import open_safetensors
from imagen_jax.weights.t5x import open_t5x
from imagen_jax.weights.torch_pickle import open_torch

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
INDEX = ".index.json"


class Weights(NamedTuple):
    """Opened weights.

    Attributes:
      tensors: by the names of the format; each is read when it is asked for.
      format: whose names these are, the transformers library's or T5X's.
      folder: where they lie; config and tokenizer may lie beside them.
    """

    tensors: Mapping[str, np.ndarray]
    format: Literal["transformers", "t5x"]
    folder: Path


def open_weights(path: str | os.PathLike) -> Weights:
    """Returns the weights found at a path; nothing but headers is read yet.

    Args:
      path: a folder in one of the forms above, or a .safetensors or .bin file.

    Raises:
      UserError: if there are none, or if files are missing or damaged.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return Weights(_open_file(path), "transformers", path.parent)
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return Weights(_open_file(path / name), "transformers", path)
    if (path / "checkpoint").is_file():
        return Weights(open_t5x(path), "t5x", path)
    checkpoints = sorted(file.parent for file in path.glob("checkpoint_*/checkpoint"))
    if len(checkpoints) == 1:
        return Weights(open_t5x(checkpoints[0]), "t5x", checkpoints[0])
    if checkpoints:
        names = ", ".join(folder.name for folder in checkpoints)
        raise UserError(
            f"{path} has several T5X checkpoints, {names}; give one of them"
        )
    found = "has no weights" if path.is_dir() else "does not exist"
    raise UserError(
        f"{path} {found}; give a folder with {', '.join(WEIGHT_FILES)} or a T5X "
        "checkpoint (a file called checkpoint, or checkpoint_STEP/checkpoint)"
    )


def _open_file(path: Path) -> LazyTensors:
    if path.name.endswith(INDEX):
        return _open_shards(path)
    match path.suffix:
        case ".safetensors":
            return open_safetensors(path)
        case ".bin":
            return open_torch(path)
    raise UserError(f"{path} is no weights file; give a .safetensors or .bin file")


def _open_shards(index: Path) -> LazyTensors:
    """Returns the tensors of all files that an index names.

    Raises:
      UserError: if the index is malformed, if shards are missing or lack tensors that
        the index promises; all of these are named.
    """
    shard_of = _read_index(index)
    names = sorted(set(shard_of.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index.parent} lacks {len(missing)} of the {len(names)} files that "
            f"{index.name} names, {', '.join(missing)}; fetch them into it"
        )
    shards = {name: _open_file(index.parent / name) for name in names}
    lacking = [
        f"{t} ({shard})" for t, shard in shard_of.items() if t not in shards[shard]
    ]
    if lacking:
        raise UserError(
            f"{index} names tensors that their files do not have, "
            f"{', '.join(lacking)}; fetch index and files of one revision"
        )
    return LazyTensors(
        {t: partial(shards[shard].__getitem__, t) for t, shard in shard_of.items()}
    )


def _read_index(index: Path) -> dict[str, str]:
    """Returns the name of the file that holds each tensor."""
    try:
        shard_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        # Only names: a path could lead out of the folder.
        is_index = all(Path(name).name == name for name in shard_of.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        is_index = False
    if not is_index or not shard_of:
        raise UserError(
            f"{index} is not an index of weights (JSON with a weight_map from tensors "
            "to files beside it); fetch it again"
        )
    return shard_of
