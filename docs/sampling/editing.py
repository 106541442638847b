"""Draws editing.png: image to image, inpainting and variations with the demo's cascade.

    python docs/sampling/editing.py

Each row is one call of `Pipeline.edit`, as `python -m imagen_jax.edit` makes it. The
picture that is edited is drawn first, with seed 0; no seed was chosen by its result.
"""

from pathlib import Path

import numpy as np

import imagen_jax
from imagen_jax.data.sources.openmoji import ATTRIBUTION
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.loading import DEMO
from imagen_jax.sampling.editing import Editing

PANDA, FOX = "a panda on a blue background", "a fox on a red background"
STRENGTHS = (0.0, 0.4, 0.6, 0.8, 1.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Draws the rows, writes the sheet."""
    model = imagen_jax.load(DEMO)
    picture = model(PANDA, seeds=[0])[0]
    images = [
        model.edit(FOX, Editing(picture, strength=strength), seeds=[0])[0]
        for strength in STRENGTHS
    ]
    captions = [f"{FOX}, strength {strength}" for strength in STRENGTHS]

    mask = np.zeros(picture.shape[:2], bool)
    mask[:, picture.shape[1] // 2 :] = True
    grey = np.where(mask[..., None], np.uint8(128), picture)
    drawn = model.edit(PANDA, Editing(picture, mask), seeds=[1, 2, 3])
    images += [picture, grey, *drawn]
    captions += ["the picture", "its right half is drawn anew"]
    captions += [f"{PANDA}, seed {seed}" for seed in (1, 2, 3)]

    mix = np.ones(len(SHARES), np.uint32), np.array(SHARES, np.float32)
    images += [*model.edit(PANDA, Editing(mix=mix), seeds=[0] * len(SHARES))]
    captions += [f"{share:.0%} of seed 1, the rest of seed 0" for share in SHARES]

    path = Path(__file__).parent / "editing.png"
    write_grid(path, images, captions, len(STRENGTHS), cell=128, footer=ATTRIBUTION)


if __name__ == "__main__":
    main()
