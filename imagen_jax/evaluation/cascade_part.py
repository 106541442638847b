"""The lower stages of a cascade, up to the resolution that is judged."""

from imagen_jax.errors import UserError
from imagen_jax.pipeline import Pipeline


def part_up_to(model: Pipeline, resolution: int | None) -> Pipeline:
    """Returns the cascade whose last stage draws pictures of `resolution`.

    Args:
      model: the cascade.
      resolution: in pixels; None keeps all stages.

    Raises:
      UserError: no stage draws such pictures.
    """
    if resolution is None:
        return model
    drawn = [loaded.stage.config.resolution for loaded in model.stages]
    if resolution not in drawn:
        raise UserError(
            f"--resolution={resolution}, but the stages draw pictures of "
            f"{', '.join(map(str, drawn))} pixels; give one of these, or other stages"
        )
    kept = model.stages[: drawn.index(resolution) + 1]
    return Pipeline(kept, model.text, model.mesh, model.say)
