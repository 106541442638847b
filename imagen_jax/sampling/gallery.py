"""Sampled pictures as files: one PNG each and a manifest.

    DIR/manifest.jsonl   {"file", "prompt", "seed", "held_out", "stage"} per line
    DIR/STAGE/00000.png  the pictures, in the order of the prompts

The manifest is written last and in one move, so a folder that has one is complete.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def write_gallery(
    folder: Path,
    pictures: dict[str, UInt8[np.ndarray, "b _ _ 3"]],
    prompts: Sequence[str],
    seeds: Sequence[int],
    held_out: bool,
) -> None:
    """Writes every stage's pictures and the manifest.

    Args:
      folder: made if missing.
      pictures: by stage name, one picture per prompt.
      prompts: one per picture.
      seeds: one per picture.
      held_out: whether the prompts were kept out of training.
    """
    lines = []
    for stage, images in pictures.items():
        (folder / stage).mkdir(parents=True, exist_ok=True)
        for i, (image, prompt, seed) in enumerate(
            zip(images, prompts, seeds, strict=True)
        ):
            file = f"{stage}/{i:05d}.png"
            Image.fromarray(image).save(folder / file)
            entry = {
                "file": file,
                "prompt": prompt,
                "seed": int(seed),
                "held_out": held_out,
                "stage": stage,
            }
            lines.append(json.dumps(entry) + "\n")
    partial = folder / "manifest.jsonl.partial"
    partial.write_text("".join(lines))
    partial.replace(folder / "manifest.jsonl")
