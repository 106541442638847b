"""Draws cascade.png: the pictures of a gallery as each stage of the cascade made them.

    python docs/sampling/cascade.py --samples=DIR

DIR is written by `python -m imagen_jax.sample --samples=DIR` with three stages. A row
per picture: every stage's picture at one size, then a detail of the last, pixel for
pixel.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from imagen_jax.data.sources.openmoji import ATTRIBUTION
from imagen_jax.evaluation.grid import write_grid

CELL = 148  # side of a picture on the sheet, in pixels
NUM_PICTURES = 3


def main() -> None:
    """Reads the gallery, writes the sheet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", required=True, type=Path)
    folder = parser.parse_args().samples
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    by_stage = {s: [row for row in rows if row["stage"] == s] for s in stages}
    images, captions = [], []
    for i in range(NUM_PICTURES):
        pictures = [read(folder / by_stage[stage][i]["file"]) for stage in stages]
        first = (len(pictures[-1]) - CELL) // 2  # of the detail, from the middle
        detail = pictures[-1][first : first + CELL, first : first + CELL]
        images += [*pictures, detail]
        prompt = by_stage[stages[-1]][i]["prompt"]
        captions += [f"{prompt}, {len(picture)} pixels" for picture in pictures]
        captions.append("detail of the last, pixel for pixel")
    write_grid(
        Path(__file__).parent / "cascade.png",
        images,
        captions,
        len(stages) + 1,
        cell=CELL,
        footer=ATTRIBUTION,
    )


def read(path: Path) -> np.ndarray:
    """Returns the pixels of a file."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    main()
