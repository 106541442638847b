"""Pictures and their recipes into files: a gallery, or one PNG drawn again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from imagen_jax.errors import UserError
from imagen_jax.pipeline import Pipeline
from imagen_jax.prompts import Picture
from imagen_jax.sampling.cascade import Part
from imagen_jax.sampling.gallery import Drawn, Gallery
from imagen_jax.sampling.png_text import read_png, write_png


def describe(model: Pipeline, options: dict[str, Any]) -> dict[str, Any]:
    """Returns what a gallery's pictures depend on besides their prompts and seeds."""
    plan = model.plan("", **options)
    return {
        "model": model.model,
        "samplers": [dataclasses.asdict(config) for config in plan.samplers],
        "second": options["second"],
        "blend": plan.blend,
        "batch_size": options["batch_size"],
    }


def draw(
    model: Pipeline, pictures: Sequence[Picture], options: dict[str, Any]
) -> dict[str, list[Drawn]]:
    """Returns each stage's pictures with their recipes, by the stage's name."""
    prompts, negatives, seeds = zip(*pictures, strict=True)
    plan = model.plan(prompts, negative=negatives, seeds=seeds, **options)
    total = len(pictures) * len(model.names)
    with tqdm(total=total, unit="picture", leave=False) as progress:

        def report(part: Part) -> None:
            progress.set_description(f"sample {part.stage}")
            progress.update(len(part.pictures))

        images = model.draw(plan, report)
    return {
        name: [
            Drawn(image, model.recipe(plan, i, name))
            for i, image in enumerate(images[name])
        ]
        for name in model.names
    }


def fill(
    model: Pipeline, gallery: Gallery, options: dict[str, Any], host: tuple[int, int]
) -> bool:
    """Draws a gallery's missing pictures; returns whether it is complete."""
    size = options["batch_size"]
    total = sum(map(len, gallery.missing(size, host)))
    with tqdm(total=total, unit="picture", desc="sample") as progress:

        def draw_batch(pictures: Sequence[Picture]) -> dict[str, list[Drawn]]:
            drawn = draw(model, pictures, options)
            progress.update(len(pictures))
            return drawn

        return gallery.fill(draw_batch, size, host=host)


def repeat(model: Pipeline, like: Path, out: Path) -> None:
    """Draws the picture of a PNG again, and says whether it is the same."""
    wanted, recipe = read_png(like)
    if recipe.stage not in model.names:
        raise UserError(f"{like} is of stage {recipe.stage!r}, which is not here")
    plan = model.plan_like(recipe)
    image = model.draw(plan)[recipe.stage][recipe.row]
    write_png(out, image, model.recipe(plan, recipe.row, recipe.stage))
    print(f"{out}: {compared(like, wanted, image)}")


def compared(
    like: Path, wanted: UInt8[np.ndarray, "_ _ 3"], image: UInt8[np.ndarray, "_ _ 3"]
) -> str:
    """Returns in words whether a picture drawn again is that of the file `like`.

    Raises:
      UserError: their sizes differ.
    """
    if image.shape != wanted.shape:
        raise UserError(
            f"{like} has {wanted.shape[1]} x {wanted.shape[0]} pixels, drawn again it "
            f"has {image.shape[1]} x {image.shape[0]}; it was resized"
        )
    difference = np.abs(image.astype(int) - wanted)
    if not difference.any():
        return "bitwise the same"
    share = (difference > 0).mean()
    return f"{share:.2%} of the values differ, by {difference.max()} at most"


def spread(pictures: Sequence[Picture], limit: int) -> list[int]:
    """Returns indices of at most `limit` pictures, as even over the prompts as can be.

    Args:
      pictures: those of a prompt one after the other.
      limit: at least 1.
    """
    numbers: list[int] = []  # of each picture within its prompt
    for i, picture in enumerate(pictures):
        again = i > 0 and pictures[i - 1][:2] == picture[:2]
        numbers.append(numbers[-1] + 1 if again else 0)
    chosen = sorted(range(len(pictures)), key=lambda i: (numbers[i], i))[:limit]
    return sorted(chosen)
