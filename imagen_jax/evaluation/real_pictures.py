"""Real pictures of the quickstart's prompts as files, to compare samples with."""

from collections.abc import Sequence
from pathlib import Path

from imagen_jax.data.images import box_downsample, encode_png
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep_scores import SET
from imagen_jax.sampling.png_text import whole_file

SPLIT = "reference"  # these drawings are in no other split
MASTER = 256  # drawn so, then box-averaged, as the training pictures are


def write_real_pictures(
    folder: Path, prompts: Sequence[str], count: int, resolution: int
) -> Path:
    """Returns the folder with `count` drawings, as many of each prompt as can be.

    Args:
      folder: what it has already is kept.
      prompts: captions of the quickstart's set.
      count: pictures, at least 1.
      resolution: in pixels, a divisor or a multiple of 256.

    Raises:
      UserError: a prompt that is not of the set, or another resolution.
    """
    by_caption = {pair.caption: pair for pair in openmoji.pairs(SET)}
    wanted = list(dict.fromkeys(prompts))
    if unknown := [prompt for prompt in wanted if prompt not in by_caption]:
        raise UserError(
            f"there are no real pictures of {unknown[0]!r}; give --reference=FILE, "
            "made by `python -m imagen_jax.evaluate statistics` of a folder of pictures"
        )
    master = max(MASTER, resolution)
    if master % resolution:
        raise UserError(
            f"real pictures of {resolution} pixels cannot be averaged from {MASTER}; "
            "give --reference=FILE"
        )
    for i in range(count):
        path = folder / f"{i:05d}.png"
        if path.exists():
            continue
        pair = by_caption[wanted[i % len(wanted)]]
        drawn = openmoji.compose_variant(pair, i // len(wanted), SPLIT, master)
        with whole_file(path) as partial:
            partial.write_bytes(encode_png(box_downsample(drawn, master // resolution)))
    return folder
