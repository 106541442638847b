"""Trains one arm with the ordinary training loop; draws the held-out prompts with it.

A finished arm leaves OUT/ARM-SEED/pictures.npy and is not run again; a killed one goes
on at its last checkpoint.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from imagen_jax.config import StageConfig
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import check_batch_size, data_shard, make_mesh
from imagen_jax.parallel.sharding import constrain_batch
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.png_text import whole_file
from imagen_jax.stage import build_stage
from imagen_jax.text_source import open_training_text, with_identity
from imagen_jax.training.loop import train


def train_arm(config: StageConfig, workdir: Path) -> None:
    """Trains a stage; one that is trained already is only opened.

    Raises:
      UserError: as `training.loop.train`, or the pictures or texts cannot be had.
    """
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
    train(
        build_stage(config, constrain=constrain_batch),
        mesh,
        lambda start, stop: iterate(maker, start, stop, config.data.num_threads),
        workdir,
        encode_fn=text.encode_fn,
    )


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
