"""Which stages make a cascade: each takes the pictures that the one before it makes."""

import itertools
from collections.abc import Sequence

from imagen_jax.config import StageConfig
from imagen_jax.errors import UserError


def check_cascade(configs: Sequence[StageConfig]) -> None:
    """Refuses stages that together draw nothing.

    Args:
      configs: from the base up, at least one.

    Raises:
      UserError: the first needs a low-res picture, or as `check_joints`.
    """
    if configs[0].is_super_resolution:
        raise UserError(
            f"the first stage, {configs[0].name}, needs a low-res picture; give "
            "the workdirs from the base up, e.g. --workdirs=BASE,SR256"
        )
    check_joints(configs)


def check_joints(configs: Sequence[StageConfig]) -> None:
    """Refuses a stage that does not take what the one before it makes.

    Args:
      configs: in the order in which they draw.

    Raises:
      UserError: naming the two stages, or a name that two stages have.
    """
    for before, after in itertools.pairwise(configs):
        if after.low_res_resolution != before.resolution:
            raise UserError(
                f"stage {after.name} takes {after.low_res_resolution}-pixel "
                f"pictures, and {before.name} makes {before.resolution}; "
                "give the workdirs from the base up, e.g. --workdirs=BASE,SR256"
            )
    for before, after in itertools.combinations(configs, 2):
        differing = [
            f"text.{name} {old!r} and {new!r}"
            for name, new in after.text.identity.items()
            if (old := before.text.identity[name]) != new
            and "" not in (old, new)  # not recorded
        ]
        if differing:
            raise UserError(
                f"stages {before.name} and {after.name} were trained "
                f"with different embeddings, {', '.join(differing)}; give stages that "
                "were trained with the same"
            )
        if before.name == after.name:
            raise UserError(
                f"two stages are called {after.name!r}, which names their pictures; "
                "give one of them another name in its config.json"
            )
