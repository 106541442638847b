r"""Writes the shapes set: training pictures as a tar, and the prompts to test with.

    DIR/train.tar, DIR/index   pictures with {"caption", "scene"}; index:DIR/index
    DIR/prompts.jsonl          {"prompt", "seed"} of each test picture, for
                               python -m imagen_jax.sample --prompts
    DIR/captions.txt           every caption of both, for python -m imagen_jax.embed

The prompts are `num` of every kind of every split but "train", and as many empty ones,
whose pictures are the baseline that has read nothing. Of "binding" every second prompt
is the partner of the one before.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator

import numpy as np

from imagen_jax.data.images import encode_png
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.format import MANIFEST
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.shapes import (
    SPLITS,
    Scene,
    caption,
    draw_scene,
    kinds_of,
    swap,
)
from imagen_jax.data.sources.shapes_drawing import place, render
from imagen_jax.errors import UserError


def check_shapes(num: int, num_prompts: int, size: int, seed: int) -> None:
    """Refuses what `write_shapes` could not make.

    Raises:
      UserError: for a number that is too small.
    """
    if num < 1 or num_prompts < 2 or num_prompts % 2 or size < 32 or seed < 0:
        raise UserError(
            f"--num is {num}, --num_prompts {num_prompts}, --size {size} and --seed "
            f"{seed}; they must be at least 1, an even number from 2, at least 32 and "
            "at least 0"
        )


def write_shapes(
    folder: str, num: int, num_prompts: int, size: int = 64, seed: int = 0
) -> bool:
    """Returns whether the set was written now; a folder that has one is left alone.

    Args:
      folder: made if missing.
      num: training pictures.
      num_prompts: test prompts of each kind of each split; see `check_shapes`.
      size: side of the pictures in pixels.
      seed: picture i depends on (seed, i) alone.
    """
    if os.path.exists(os.path.join(folder, "index", MANIFEST)):
        return False
    os.makedirs(folder, exist_ok=True)
    tar = os.path.join(folder, "train.tar")
    captions = dict.fromkeys(_write_tar(tar, num, size, seed))
    prompts = [caption(scene) for scene in prompt_scenes(num_prompts, seed)]
    prompts += [""] * num_prompts
    captions |= dict.fromkeys(filter(None, prompts))
    lines = [json.dumps({"prompt": text, "seed": i}) for i, text in enumerate(prompts)]
    _write(os.path.join(folder, "prompts.jsonl"), lines)
    _write(os.path.join(folder, "captions.txt"), list(captions))
    build_index([tar], os.path.join(folder, "index"), IndexOptions(min_size=size))
    return True


def prompt_scenes(num: int, seed: int) -> Iterator[Scene]:
    """Yields the scenes to test with: `num` of each kind of each split but "train"."""
    for split in SPLITS[1:]:
        for kind in kinds_of(split):
            for index in range(num // 2 if split == "binding" else num):
                scene = draw_scene(seed, index, split, kind)
                yield scene
                if split == "binding":
                    yield swap(scene)


def train_picture(seed: int, index: int, size: int) -> tuple[np.ndarray, dict]:
    """Returns a training picture, uint8 [size size 3], and its ground truth."""
    scene = draw_scene(seed, index, "train")
    things = place(scene, np.random.default_rng((seed, len(SPLITS), index)))
    picture = render(scene.ground, things, size)
    truth = scene._asdict() | {"things": [thing._asdict() for thing in things]}
    return picture, {"caption": caption(scene), "scene": truth}


def _write_tar(path: str, num: int, size: int, seed: int) -> Iterator[str]:
    """Yields each picture's caption as it is written."""
    with tarfile.open(path, "w") as archive:
        for index in range(num):
            picture, record = train_picture(seed, index, size)
            for suffix, data in (
                ("png", encode_png(picture)),
                ("json", json.dumps(record).encode()),
            ):
                header = tarfile.TarInfo(f"{index:07}.{suffix}")
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
            yield record["caption"]


def _write(path: str, lines: list[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
