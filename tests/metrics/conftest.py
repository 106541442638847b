"""Folders of small pictures, and an extractor that needs no weights."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagen_jax.features import resize
from imagen_jax.features.extractor import (
    Extractor,
    Features,
    batch_multiple,
    sharded_extract,
)
from imagen_jax.parallel.mesh import make_mesh

SIDE = 8


def _describe(params, x):
    """Means of rows of each colour: 24 numbers that a test can check by hand."""
    pooled = x.mean(axis=2).reshape(len(x), -1) @ params
    return Features(pooled, jax.nn.log_softmax(pooled[:, :5]))


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    mesh = make_mesh()
    width = 3 * SIDE
    return Extractor(
        name="distance of rows",
        kernel_name="kernel of rows",
        identity={
            "name": "rows",
            "weights_sha256": "0" * 64,
            "input_size": SIDE,
            "resize": resize.NAME,
            "scaling": "x / 255",
        },
        width=width,
        prepare=lambda picture: resize.resize(picture, SIDE) / np.float32(255),
        extract=sharded_extract(_describe, jnp.eye(width), mesh),
        multiple=batch_multiple(mesh),
    )


@pytest.fixture
def write_folder(tmp_path):
    """The function `write_folder(name, count, ...)` -> a folder of random pictures."""

    def write(name: str, count: int, size=(16, 16), seed=0, mean=128) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng([seed, count])
        for i in range(count):
            pixels = rng.normal(mean, 40, (size[1], size[0], 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04}.png")
        return folder

    return write
