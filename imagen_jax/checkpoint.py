"""Checkpoints of a run, and weights for sampling; the only importer of orbax.

A workdir holds `config.json` and `checkpoints/STEP/`, written asynchronously and
committed by a rename, so a killed run leaves the last complete one. Restoring puts each
leaf straight onto the devices that its sharding names, whatever mesh and number of
hosts wrote it.

With several processes each writes the parts that its devices hold, to the folder that
all share; all must call every method of `Checkpoints`, in the same order.
"""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from imagen_jax.config import StageConfig
from imagen_jax.config_file import to_dict
from imagen_jax.errors import UserError


class Checkpoints:
    """The checkpoints of one workdir."""

    def __init__(self, workdir: Path, keep: int = 3):
        """Opens `workdir/checkpoints`, made if it is missing; `keep` are retained."""
        self._manager = ocp.CheckpointManager(
            (Path(workdir) / "checkpoints").absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=True,
                enable_async_checkpointing=True,
                # What a killed run had not finished would stay for ever.
                cleanup_tmp_directories=True,
                # Hosts whose views of the disk differ must not take different steps.
                single_host_load_and_broadcast=True,
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state`; it is copied off the devices before this returns."""
        if self._manager.latest_step() != step:
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(state))
            )

    def restore(self, abstract_state: Any) -> Any:
        """Returns the newest state as `abstract_state` (with shardings) lays it out.

        Raises:
          UserError: it is of another model.
        """
        step = self._manager.latest_step()
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        try:
            return self._manager.restore(step, args=args)["state"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._manager.directory}/{step} is of another model or optimizer: "
                f"{_first_line(error)}; use another --workdir, or the config it was "
                "trained with"
            ) from error

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def restore_ema_params(workdir: Path, name: str, abstract_params: Any) -> Any:
    """Returns only the averaged parameters of a run's newest checkpoint.

    Args:
      workdir: of the run.
      name: which average, e.g. "0.9999".
      abstract_params: their shapes, with shardings.

    Raises:
      UserError: there is no checkpoint, or it is of another model.
    """
    folder = (Path(workdir) / "checkpoints").absolute()
    if not folder.is_dir():
        raise UserError(f"{workdir} has no checkpoints; train it first")
    # A manager that used Standard args for the item would refuse PyTree args.
    with ocp.CheckpointManager(folder) as manager:
        step = manager.latest_step()
        if step is None:
            raise UserError(f"{folder} has no complete checkpoint; train it first")
        item = {"ema_params": {name: abstract_params}}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            )
        )
        try:
            return manager.restore(step, args=args)["state"]["ema_params"][name]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}/{step} is of another model than {workdir}/config.json: "
                f"{_first_line(error)}"
            ) from error


def write_config(workdir: Path, config: StageConfig) -> None:
    """Writes the resolved settings to `workdir/config.json`, whole or not at all.

    On other processes than 0 nothing is written.
    """
    if jax.process_index() == 0:
        text = json.dumps(to_dict(config), indent=2)
        partial = Path(workdir) / "config.json.partial"
        partial.write_text(text + "\n")
        partial.replace(Path(workdir) / "config.json")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
