"""Folders to a cascade that is ready to draw."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh

from imagen_jax.averages import open_averages
from imagen_jax.bundle import load_stage
from imagen_jax.bundle_folder import find_stages
from imagen_jax.cascade_config import check_cascade
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch, tree_shardings
from imagen_jax.pipeline import LoadedStage, Pipeline
from imagen_jax.prompt_text import PromptText
from imagen_jax.sampling.room import naming_the_stage
from imagen_jax.stage import Params, Stage, build_stage
from imagen_jax.text_source import open_text
from imagen_jax.workdir import local_copy

DEMO = Path(__file__).parents[1] / "docs" / "demo"
"""The quickstart's weights in a checkout; an installed package does not carry them."""


def named_folders(bundle: str | None, workdirs: str | None) -> list[str | Path]:
    """Returns the folders that the flags of a command name.

    Args:
      bundle: of --bundle; None without it.
      workdirs: of --workdirs, separated by commas; None without it. Without either, the
        command was called with --demo.
    """
    if workdirs is not None:
        return [*workdirs.split(",")]
    return [DEMO if bundle is None else bundle]


def load(
    *folders: str | os.PathLike,
    embeddings: str = "",
    encoder_weights: str = "",
    mesh: Mesh | None = None,
    resident: bool = True,
    say: Callable[[str], None] = warnings.warn,
) -> Pipeline:
    """Returns a cascade, ready to draw.

    Args:
      *folders: a bundle of a whole cascade (see `imagen_jax.bundle_folder`), or the
        workdirs or bundles of its stages, from the base up.
      embeddings: a store that holds the prompts; "" runs the text encoder.
      encoder_weights: the encoder's file, folder, hub name or T5X checkpoint; "" takes
        what the stages' settings name.
      mesh: None takes all devices of this machine, along the data axis.
      resident: keep all stages' parameters on the devices; False reads each stage's
        anew at its turn and lets it go after.
      say: called with a sentence where a prompt is empty or was cut, say.

    Raises:
      UserError: no stage, a damaged bundle, stages that do not fit each other, text
        embeddings that they were not trained with, or no room for a stage.
    """
    if not folders:
        raise UserError("no folder was given; give a bundle, or workdirs from the base")
    if not all(os.fspath(folder) for folder in folders):
        names = ", ".join(repr(os.fspath(folder)) for folder in folders)
        raise UserError(f"a folder's name is empty among {names}; leave it out")
    found = find_stages([local_copy(folder) for folder in folders])
    check_cascade(found.configs)
    mesh = make_mesh(devices=jax.local_devices()) if mesh is None else mesh
    changes = {"weights_path": encoder_weights, "tokenizer_path": found.tokenizer}
    changes = {name: value for name, value in changes.items() if value}
    configs = [dataclasses.replace(config.text, **changes) for config in found.configs]
    text = PromptText(open_text(configs[0], embeddings, mesh), configs, say)
    stages = [_open_stage(folder, mesh, resident) for folder in found.folders]
    return Pipeline(stages, text, mesh, say)


def _open_stage(folder: Path, mesh: Mesh, resident: bool) -> LoadedStage:
    def read() -> tuple[Stage, Params]:
        with jax.set_mesh(mesh):
            return load_stage(
                folder,
                constrain=constrain_batch,
                shardings_fn=lambda abstract: tree_shardings(abstract, mesh),
            )

    averages = open_averages(folder)
    if resident:
        with naming_the_stage(averages.config.name, 1):
            stage, params = read()
        return LoadedStage(stage, lambda: params, averages.origin())
    stage = build_stage(averages.config, constrain=constrain_batch)
    return LoadedStage(stage, lambda: read()[1], averages.origin())
