"""Trains one arm with the ordinary training loop; draws the held-out prompts with it.

A finished arm leaves OUT/ARM-SEED/pictures.npy and is not run again; a killed one goes
on at its last checkpoint.
"""

import dataclasses
import functools
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from imagen_jax.compiled import keep_compiled
from imagen_jax.config import DataConfig, StageConfig, TextConfig
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import check_batch_size, data_shard, make_mesh
from imagen_jax.parallel.sharding import constrain_batch
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.png_text import whole_file
from imagen_jax.stage import build_stage
from imagen_jax.text_source import open_training_text, with_identity
from imagen_jax.training.loop import Program, compile_step, make_program, train

# Steps of a run from which its step is compiled apart: on a slow CPU that costs some
# 20 s, and each step of each seed is then 0.1 s quicker.
COMPILE_APART = 100


def train_arm(config: StageConfig, workdir: Path) -> None:
    """Trains a stage; one that is trained already is only opened.

    Raises:
      UserError: as `training.loop.train`, or the pictures or texts cannot be had.
    """
    inputs = _inputs(config)
    train(**inputs, workdir=workdir, program=_program(config, inputs["mesh"]))


def _inputs(config: StageConfig) -> dict[str, Any]:
    """Returns what `train` and `compile_step` take: stage, mesh, data, encoder."""
    mesh = make_mesh(config.mesh)
    check_batch_size(config.train.batch_size, mesh)
    text = open_training_text(config, mesh)
    config = with_identity(config, text.identity)
    maker = BatchMaker(
        open_source(config.data.source),
        text.batch_text,
        resolution=config.resolution,
        batch_size=config.train.batch_size,
        seed=config.seed,
        shard=data_shard(mesh),
        cache=config.data.cache,
        max_bad_share=config.data.max_bad_share,
    )
    return {
        "stage": build_stage(config, constrain=constrain_batch),
        "mesh": mesh,
        "batches_fn": functools.partial(
            iterate, maker, num_threads=config.data.num_threads
        ),
        "encode_fn": text.encode_fn,
    }


def _program(config: StageConfig, mesh: Mesh) -> Program:
    """Returns the arm's program: that of the arm before, if it is the same one.

    Arms that differ in their seed or in the text encoder share it.
    """
    shared = _without_run(config)
    if shared not in _last_program:
        _last_program.clear()
        if jax.default_backend() == "cpu" and config.train.num_steps >= COMPILE_APART:
            compile_apart(config)
        stage = build_stage(shared, constrain=constrain_batch)
        with jax.set_mesh(mesh):
            _last_program[shared] = make_program(stage, mesh)
    return _last_program[shared]


_last_program: dict[StageConfig, Program] = {}


def _without_run(config: StageConfig) -> StageConfig:
    """Returns the config without what its step does not depend on."""
    return dataclasses.replace(
        config,
        seed=0,
        text=TextConfig(width=config.text.width, max_length=config.text.max_length),
        data=DataConfig(crop_size=config.data.crop_size),
    )


def compile_apart(config: StageConfig) -> None:
    """Compiles the step of an arm into JAX's compile cache, in a process of its own.

    On CPUs this process then takes its steps in less time, see `loop.compile_step`.

    Raises:
      UserError: as `train_arm`.
    """
    spawn = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with ProcessPoolExecutor(1, spawn) as processes:
        processes.submit(_compile, config).result()


def _compile(config: StageConfig) -> None:
    keep_compiled()
    compile_step(**_inputs(config))


def draw_arm(
    model: Pipeline,
    prompts: Sequence[str],
    seed: int,
    sampling: dict[str, Any],
    batch_size: int,
) -> UInt8[np.ndarray, "b s s 3"]:
    """Returns the last stage's pictures, one for each prompt; picture i has seed + i.

    `sampling` holds for the last stage; the stages below keep their own.
    """
    lower = [None] * (len(model.names) - 1)
    settings: dict[str, Any] = {
        name: [*lower, value] for name, value in sampling.items()
    }
    return model(
        prompts,
        seeds=[seed + i for i in range(len(prompts))],
        batch_size=batch_size,
        **settings,
    )


def recall(folder: Path, about: dict[str, Any]) -> np.ndarray | None:
    """Returns a finished arm's pictures, None where there are none.

    Raises:
      UserError: they were made with other settings.
    """
    if not (folder / "about.json").exists():
        return None
    kept = json.loads((folder / "about.json").read_text("utf-8"))
    kept.pop("seconds")
    if kept != json.loads(json.dumps(about)):
        raise UserError(
            f"{folder} holds an arm run with other settings; choose another --out"
        )
    return np.load(folder / "pictures.npy")


def keep(
    folder: Path, about: dict[str, Any], pictures: np.ndarray, started: float
) -> None:
    """Writes a finished arm; about.json last, which says that it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pictures.npy", pictures)
    seconds = round(time.monotonic() - started, 1)
    with whole_file(folder / "about.json") as partial:
        partial.write_text(json.dumps({**about, "seconds": seconds}) + "\n", "utf-8")
