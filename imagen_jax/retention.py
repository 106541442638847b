"""Which checkpoints of a run are kept, and which one is read.

Both look at the held-out loss (`train.heldout_every`) that a checkpoint was saved with,
None where there was none.
"""

from collections.abc import Mapping
from typing import Literal

from imagen_jax.errors import UserError

StepChoice = int | Literal["best"] | None


def kept_steps(
    losses: Mapping[int, float | None], newest: int, every: int = 0, best: bool = False
) -> set[int]:
    """Returns the steps whose checkpoints stay; the others are deleted.

    Args:
      losses: held-out loss of each checkpoint, by step.
      newest: so many of the newest stay (`train.keep_checkpoints`), at least 1.
      every: those of steps that it divides stay (`train.keep_every`); 0 means none.
      best: the one of the lowest loss stays (`train.keep_best`).
    """
    kept = set(sorted(losses)[-newest:])
    if every:
        kept |= {step for step in losses if step % every == 0}
    if best and (step := best_step(losses)) is not None:
        kept.add(step)
    return kept


def best_step(losses: Mapping[int, float | None]) -> int | None:
    """Returns the step of the lowest loss, of equal ones the newest; None if none has.

    Args:
      losses: held-out loss of each checkpoint, by step.
    """
    known = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return -min(known)[1] if known else None


def choose_step(
    losses: Mapping[int, float | None], choice: StepChoice, workdir: str
) -> int:
    """Returns the step of the checkpoint to read.

    Args:
      losses: held-out loss of each complete checkpoint, by step.
      choice: a step, "best", or None for the newest.
      workdir: its name in the messages.

    Raises:
      UserError: there is no such checkpoint.
    """
    if not losses:
        raise UserError(f"{workdir} has no complete checkpoint; train it first")
    if choice is None:
        return max(losses)
    if choice == "best":
        if (step := best_step(losses)) is None:
            raise UserError(
                f"no checkpoint of {workdir} has a held-out loss; take the newest, or "
                "train with train.heldout_every and train.keep_best"
            )
        return step
    if choice not in losses:
        listed = ", ".join(map(str, sorted(losses)))
        raise UserError(
            f"{workdir} has no checkpoint of step {choice}; it has those of {listed}"
        )
    return choice
