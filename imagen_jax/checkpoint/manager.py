"""The checkpoints of a workdir: written, kept by the rules of retention, restored."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import orbax.checkpoint as ocp

from imagen_jax.checkpoint.reading import (
    OTHER_RUN,
    check_values,
    errors_explained,
    in_own_memory,
)
from imagen_jax.config import StageConfig
from imagen_jax.config_file import to_dict
from imagen_jax.errors import UserError
from imagen_jax.parallel.checksums import tree_checksums
from imagen_jax.retention import StepChoice, choose_step, kept_steps

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of a workdir that all processes share."""

    def __init__(
        self, workdir: Path, newest: int = 3, every: int = 0, best: bool = False
    ):
        """Opens `workdir/checkpoints`, made if it is missing.

        Args:
          workdir: of the run.
          newest: see `retention.kept_steps`, as `every` and `best`.
          every: a period in steps; 0 means none.
          best: whether the one of the lowest held-out loss is kept.
        """
        self._manager = ocp.CheckpointManager(
            (Path(workdir) / FOLDER).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Preservation(newest, every, best),
                # Without this one orbax does not write the losses.
                best_fn=cast(Any, _heldout_loss) if best else None,  # may give None
                best_mode="min",
                create=True,
                enable_async_checkpointing=True,
                # What a killed run had not finished would stay for ever.
                cleanup_tmp_directories=True,
                # Hosts whose views of the disk differ must not take different steps.
                single_host_load_and_broadcast=True,
            ),
        )
        self._best = best

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, heldout_loss: float | None = None) -> None:
        """Starts writing `state`; it is copied off the devices before this returns.

        Args:
          step: of the state; if its checkpoint is there already, nothing is written.
          state: a pytree of arrays.
          heldout_loss: at this step; None, or not finite, cannot be the best.
        """
        if self._manager.latest_step() == step:
            return
        metrics = None
        if self._best and heldout_loss is not None and math.isfinite(heldout_loss):
            metrics = {"heldout_loss": heldout_loss}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            checksums=ocp.args.JsonSave(tree_checksums(state)),
        )
        self._manager.save(step, args=args, metrics=metrics)

    def restore(self, abstract_state: Any) -> Any:
        """Returns the newest state as `abstract_state` (with shardings) lays it out.

        Raises:
          UserError: it is of another model, or cannot be read.
        """
        step = self._manager.latest_step()
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        folder = Path(self._manager.directory) / str(step)
        with errors_explained(str(folder), OTHER_RUN):
            state = self._manager.restore(step, args=args)["state"]
            check_values(folder, state, str(folder))
            return in_own_memory(state)

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def restore_ema_params(
    workdir: Path, name: str, abstract_params: Any, step: StepChoice = None
) -> Any:
    """Returns only the averaged parameters of one of a run's checkpoints.

    Args:
      workdir: of the run, or the local copy of one (`workdir.local_copy`).
      name: which average, e.g. "0.9999".
      abstract_params: their shapes, with shardings.
      step: of the checkpoint; None means the newest, "best" that of the lowest held-out
        loss.

    Raises:
      UserError: there is no such checkpoint, it is of another model, or cannot be
        read.
    """
    folder = (Path(workdir) / FOLDER).absolute()
    if not folder.is_dir():
        raise UserError(f"{workdir} has no checkpoints; train it first")
    # A manager that used Standard args for the item would refuse PyTree args.
    with ocp.CheckpointManager(folder) as manager:
        losses = {s: _heldout_loss(manager.metrics(s)) for s in manager.all_steps()}
        chosen = choose_step(losses, step, str(workdir))
        item = {"ema_params": {name: abstract_params}}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            )
        )
        other = f"is of another model than {workdir}/config.json"
        checkpoint = folder / str(chosen)
        with errors_explained(str(checkpoint), other):
            state = manager.restore(chosen, args=args)["state"]
            check_values(checkpoint, state, str(checkpoint))
            return state["ema_params"][name]


def write_config(workdir: Path, config: StageConfig) -> None:
    """Writes the resolved settings to `workdir/config.json`, whole or not at all.

    On other processes than 0 nothing is written.
    """
    if jax.process_index() == 0:
        text = json.dumps(to_dict(config), indent=2)
        partial = Path(workdir) / "config.json.partial"
        partial.write_text(text + "\n")
        partial.replace(Path(workdir) / "config.json")


class _Preservation:
    """`retention.kept_steps` as one of orbax's preservation policies."""

    def __init__(self, newest: int, every: int, best: bool):
        self._settings = (newest, every, best)

    def should_preserve(
        self,
        checkpoints: Sequence[Any],  # orbax's protocol cannot be checked at run time
        *,
        context: ocp.checkpoint_managers.PreservationContext,
    ) -> Sequence[bool]:
        del context  # empty
        losses = {info.step: _heldout_loss(info.metrics) for info in checkpoints}
        kept = kept_steps(losses, *self._settings)
        return [info.step in kept for info in checkpoints]


def _heldout_loss(metrics: Mapping[str, float] | None) -> float | None:
    return None if metrics is None else metrics["heldout_loss"]
