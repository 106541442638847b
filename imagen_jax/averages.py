"""The averaged parameters of a trained stage: of a workdir or of a bundle alike.

Opened, they tell their names, shapes and origin; they are read when they are asked for,
each straight to where it belongs.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from imagen_jax.bundle_folder import WEIGHTS, file_sha256
from imagen_jax.checkpoint import FOLDER, restore_ema_params
from imagen_jax.config import StageConfig
from imagen_jax.config_file import read_config
from imagen_jax.parallel.sharding import leaf_name
from imagen_jax.stage import Params, build_stage
from imagen_jax.weights.safetensors import open_safetensors

Shape = tuple[int, ...]


class Averages(NamedTuple):
    """The averaged parameters of a trained stage, which are not read yet.

    Attributes:
      config: the stage's settings.
      shapes: of each parameter by its name, "level/layer/kernel".
      read: (name -> sharding) -> those parameters, float32, laid out so. Where several
        processes train together, all must call it.
      origin: () -> which weights they are: the file's "weights_sha256" (which reads it
        whole), or "step" and "ema_decay" of a run.
    """

    config: StageConfig
    shapes: dict[str, Shape]
    read: Callable[[Mapping[str, Sharding]], dict[str, jax.Array]]
    origin: Callable[[], dict[str, str | int]]


class Comparison(NamedTuple):
    """Tensors that were found against those that are wanted, names sorted.

    Attributes:
      common: names found in the wanted shape.
      missing: names wanted and not found.
      extra: names found and not wanted.
      reshaped: name -> (shape found, shape wanted), where they differ.
    """

    common: list[str]
    missing: list[str]
    extra: list[str]
    reshaped: dict[str, tuple[Shape, Shape]]

    def faults(self) -> list[str]:
        """Returns a sentence for each tensor that does not fit, by name."""
        faults = [f"{name} is missing" for name in self.missing]
        faults += [f"{name} is extra" for name in self.extra]
        faults += [
            f"{name} is {found}, not {wanted}"
            for name, (found, wanted) in self.reshaped.items()
        ]
        return sorted(faults)


def open_averages(folder: Path) -> Averages:
    """Returns the averaged parameters of a bundle or, else, of a training workdir.

    Raises:
      UserError: no config, or a bundle's weights that are no safetensors file. That a
        workdir has no checkpoint is found by `read`.
    """
    config = read_config(folder / "config.json")
    if (folder / WEIGHTS).exists():
        return _open_bundle(folder / WEIGHTS, config)
    return _open_workdir(folder, config)


def compare(found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> Comparison:
    """Returns which tensors fit, and which do not and why.

    Args:
      found: shapes by name, of a file or run.
      wanted: shapes by name, of a network.
    """
    both = sorted(found.keys() & wanted.keys())
    return Comparison(
        common=[name for name in both if found[name] == wanted[name]],
        missing=sorted(wanted.keys() - found.keys()),
        extra=sorted(found.keys() - wanted.keys()),
        reshaped={
            name: (found[name], wanted[name])
            for name in both
            if found[name] != wanted[name]
        },
    )


def shapes_of(params: Params) -> dict[str, Shape]:
    """Returns the shape of each leaf by its name."""
    return {
        leaf_name(keys): tuple(leaf.shape)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _open_bundle(path: Path, config: StageConfig) -> Averages:
    tensors = open_safetensors(path)

    def read(shardings: Mapping[str, Sharding]) -> dict[str, jax.Array]:
        return {name: _place(tensors[name], to) for name, to in shardings.items()}

    def origin() -> dict[str, str | int]:
        return {"weights_sha256": file_sha256(path)}

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Averages(config, shapes, read, origin)


def _place(tensor: np.ndarray, sharding: Sharding) -> jax.Array:
    """Returns a tensor as float32; each device gets only its part."""
    return jax.make_array_from_callback(
        tensor.shape, sharding, lambda index: tensor[index].astype(np.float32)
    )


def _open_workdir(folder: Path, config: StageConfig) -> Averages:
    decay = str(config.train.ema_decays[0])
    # A checkpoint gets its name when it is complete. One step for `read` and `origin`,
    # even if the run goes on in between.
    names = [path.name for path in (folder / FOLDER).glob("*")]
    step = max((int(name) for name in names if name.isdecimal()), default=None)
    abstract = jax.eval_shape(build_stage(config).init_params, jax.random.key(0))
    shapes = shapes_of(abstract)

    def read(shardings: Mapping[str, Sharding]) -> dict[str, jax.Array]:
        tree: dict[str, Any] = {}
        for name, sharding in shardings.items():
            *parents, last = name.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = jax.ShapeDtypeStruct(
                shapes[name], np.float32, sharding=sharding
            )
        restored = restore_ema_params(folder, decay, tree, step)
        return {
            leaf_name(keys): leaf
            for keys, leaf in jax.tree_util.tree_leaves_with_path(restored)
        }

    def origin() -> dict[str, str | int]:
        return {"step": step or 0, "ema_decay": decay}

    return Averages(config, shapes, read, origin)
