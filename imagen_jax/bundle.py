"""A trained stage as one small folder: settings and averaged weights.

    FOLDER/config.json       the resolved settings
    FOLDER/ema.safetensors   the averaged parameters, bfloat16, named "level/layer/..."

    python -m imagen_jax.bundle --workdirs=BASE,SR256 --out=DIR

writes one such folder per stage under DIR. `load_stage` reads a stage from such a
folder or from a training workdir alike.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from imagen_jax.checkpoint import restore_ema_params
from imagen_jax.config_file import read_config, to_dict
from imagen_jax.errors import UserError, run_command
from imagen_jax.stage import Params, Stage, build_stage
from imagen_jax.weights.safetensors import read_safetensors

WEIGHTS = "ema.safetensors"


def load_stage(
    folder: Path, *, constrain: Callable[[jax.Array], jax.Array] = lambda x: x
) -> tuple[Stage, Params]:
    """Returns a stage and its averaged parameters, float32.

    Args:
      folder: a training workdir (its newest checkpoint, first decay) or a bundle's.
      constrain: see `stage.build_stage`.

    Raises:
      UserError: no config, no weights, or weights of another model.
    """
    config = read_config(folder / "config.json")
    stage = build_stage(config, constrain=constrain)
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    if (folder / WEIGHTS).exists():
        return stage, read_weights(folder / WEIGHTS, abstract)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        abstract,
    )
    name = str(config.train.ema_decays[0])
    return stage, restore_ema_params(folder, name, abstract)


def write_bundle(stage: Stage, params: Params, folder: Path) -> None:
    """Writes a stage's settings and parameters to a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_dict(stage.config), indent=2) + "\n"
    (folder / "config.json").write_text(text)
    tensors = {
        _name(keys): np.asarray(leaf).astype(ml_dtypes.bfloat16)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    save_file(tensors, folder / WEIGHTS)


def read_weights(path: Path, abstract_params: Any) -> Params:
    """Returns the parameters of a bundle, float32.

    Args:
      path: the safetensors file.
      abstract_params: the names and shapes that the network has.

    Raises:
      UserError: it cannot be read, or a tensor is missing, extra or of another shape;
        all of them are named.
    """
    tensors = read_safetensors(path)
    wanted = {
        _name(keys): leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(abstract_params)
    }
    faults = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    faults += [f"{name} is extra" for name in tensors.keys() - wanted.keys()]
    faults += [
        f"{name} is {tensors[name].shape}, not {leaf.shape}"
        for name, leaf in wanted.items()
        if name in tensors and tensors[name].shape != leaf.shape
    ]
    if faults:
        raise UserError(
            f"{path} is of another model than the config.json beside it: "
            + "; ".join(sorted(faults))
        )
    return jax.tree_util.tree_map_with_path(
        lambda keys, _: tensors[_name(keys)].astype(np.float32), abstract_params
    )


def _name(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def main() -> None:
    """Parses the command line and writes the bundle."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.bundle",
        description="Write trained stages as small folders of settings and weights.",
    )
    parser.add_argument("--workdirs", required=True, help="comma-separated")
    parser.add_argument("--out", required=True, type=Path)
    flags = parser.parse_args()
    for workdir in flags.workdirs.split(","):
        stage, params = load_stage(Path(workdir))
        folder = flags.out / stage.config.name
        if folder.resolve() == Path(workdir).resolve():
            raise UserError(
                f"--out={flags.out} would put the bundle into the workdir {workdir}, "
                "where later training would not change it; give another --out"
            )
        write_bundle(stage, params, folder)
        print(f"{folder}: {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
