"""Sheets of drawn pictures, which say how to draw them again."""

from collections.abc import Sequence
from pathlib import Path

from imagen_jax.drawing import compared
from imagen_jax.errors import UserError
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.gallery import Drawn
from imagen_jax.sampling.png_text import read_sheet, sheet_texts

COLUMNS = 8


def write_sheet(path: Path, drawn: Sequence[Drawn], footer: str | None) -> None:
    """Writes pictures with their prompts, and their recipes as the file's text.

    Args:
      path: of the PNG.
      drawn: at least one picture, with its recipe.
      footer: below the grid; None for none.
    """
    recipes = [recipe for _, recipe in drawn if recipe is not None]
    write_grid(
        path,
        [made.image for made in drawn],
        [recipe.prompt for recipe in recipes],
        COLUMNS,
        footer=footer,
        texts=sheet_texts(recipes),
    )


def repeat_sheet(model: Pipeline, like: Path, out: Path) -> bool:
    """Draws a sheet again and says whether it is the same; False where it is none.

    Raises:
      UserError: another model drew it, or its stage is not here.
    """
    found = read_sheet(like)
    if found is None:
        return False
    wanted, recipes, footer = found
    stage = recipes[0].stage
    if stage not in model.names:
        raise UserError(f"{like} is of stage {stage!r}, which is not here")
    plan = model.plan_sheet(recipes)
    images = model.draw(plan)[stage]
    drawn = [Drawn(im, model.recipe(plan, i, stage)) for i, im in enumerate(images)]
    write_sheet(out, drawn, footer)
    again = read_sheet(out)
    assert again is not None
    print(f"{out}: {compared(like, wanted, again[0])}")
    return True
