"""A trained stage as one small folder: settings and averaged weights.

    FOLDER/config.json       the resolved settings
    FOLDER/ema.safetensors   the averaged parameters, bfloat16, named "level/layer/..."

    python -m imagen_jax.bundle --workdirs=BASE,SR256 --out=DIR

writes one such folder per stage under DIR, with a model card, the tokenizer and the
hashes of all files; see `imagen_jax.bundle_folder`. `load_stage` reads a stage from
such a folder or from a training workdir alike.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jax.sharding import SingleDeviceSharding
from safetensors.numpy import save_file

from imagen_jax.averages import (
    compare,
    open_averages,
    shapes_of,
)
from imagen_jax.bundle_card import TrainedStage, card_text
from imagen_jax.bundle_folder import (
    CARD,
    TOKENIZER,
    WEIGHTS,
    copy_tokenizer,
    write_manifest,
)
from imagen_jax.cascade_config import check_joints
from imagen_jax.config_file import read_config, to_dict
from imagen_jax.errors import UserError, run_command
from imagen_jax.parallel.sharding import leaf_name
from imagen_jax.stage import Params, Stage, build_stage
from imagen_jax.workdir import local_copy


def load_stage(
    folder: Path,
    *,
    constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
    shardings_fn: Callable[[Any], Any] | None = None,
) -> tuple[Stage, Params]:
    """Returns a stage and its averaged parameters, float32.

    Args:
      folder: a training workdir (its newest checkpoint, first decay) or a bundle's.
      constrain: see `stage.build_stage`.
      shardings_fn: tree of shapes -> where each parameter goes; None puts all on the
        first device.

    Raises:
      UserError: no config, no weights, or weights of another model; then every tensor
        that does not fit is named.
    """
    averages = open_averages(folder)
    stage = build_stage(averages.config, constrain=constrain)
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    comparison = compare(averages.shapes, shapes_of(abstract))
    if faults := comparison.faults():
        raise UserError(
            f"{folder / WEIGHTS} is of another model than the config.json beside it: "
            + "; ".join(faults)
        )
    if shardings_fn is None:
        device = SingleDeviceSharding(jax.local_devices()[0])
        places = dict.fromkeys(comparison.common, device)
    else:
        placed = jax.tree_util.tree_leaves_with_path(shardings_fn(abstract))
        places = {leaf_name(keys): sharding for keys, sharding in placed}
    tensors = averages.read(places)
    return stage, jax.tree_util.tree_map_with_path(
        lambda keys, _: tensors[leaf_name(keys)], abstract
    )


def write_bundle(stage: Stage, params: Params, folder: Path) -> None:
    """Writes a stage's settings and parameters to a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_dict(stage.config), indent=2) + "\n"
    (folder / "config.json").write_text(text)
    tensors = {
        leaf_name(keys): np.asarray(leaf).astype(ml_dtypes.bfloat16)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    save_file(tensors, folder / WEIGHTS)


def write_cascade(
    workdirs: Sequence[str], out: Path, tokenizer: str = "", about: str = ""
) -> list[Path]:
    """Writes a bundle of a cascade, whole or not at all; returns its stages' folders.

    Args:
      workdirs: of the stages, from the base up; one alone may be of any kind.
      out: folder of the bundle; missing or empty.
      tokenizer: file or folder of the vocabulary; see `bundle_folder.copy_tokenizer`.
      about: Markdown for the model card.

    Raises:
      UserError: `out` is not empty, the stages do not fit each other, or one cannot be
        read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out={out} is there already and is not empty; give another --out, or "
            "delete it"
        )
    folders = [local_copy(workdir) for workdir in workdirs]
    configs = [read_config(folder / "config.json") for folder in folders]
    check_joints(configs)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=out.absolute().parent, prefix=f".{out.name}."
    ) as scratch:
        made = Path(scratch) / "bundle"
        trained = []
        for folder, config in zip(folders, configs, strict=True):
            origin = open_averages(folder).origin()
            stage, params = load_stage(folder)
            write_bundle(stage, params, made / config.name)
            size = sum(leaf.size for leaf in jax.tree.leaves(params))
            trained.append(TrainedStage(config, size, origin))
        id = copy_tokenizer(configs[0].text, tokenizer, made / TOKENIZER)
        card = card_text(out.absolute().name, trained, id, about)
        (made / CARD).write_text(card, "utf-8")
        write_manifest(made, [config.name for config in configs])
        made.replace(out)
    return [out / config.name for config in configs]


def main() -> None:
    """Parses the command line and writes the bundle."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.bundle",
        description="Write the trained stages of a cascade as one small folder.",
    )
    parser.add_argument("--workdirs", required=True, help="from the base up, commas")
    parser.add_argument("--out", required=True, type=Path, help="new folder")
    parser.add_argument("--tokenizer", default="", help="file or folder; else found")
    parser.add_argument("--about", type=Path, help="Markdown for the model card")
    flags = parser.parse_args()
    about = ""
    if flags.about is not None:
        try:
            about = flags.about.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--about={flags.about} cannot be read: {error}") from error
    workdirs = flags.workdirs.split(",")
    for folder in write_cascade(workdirs, flags.out, flags.tokenizer, about):
        print(f"{folder}: {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
