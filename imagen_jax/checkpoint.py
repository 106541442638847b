"""Checkpoints of a run, and weights for sampling; the only importer of orbax.

A workdir holds `config.json` and `checkpoints/STEP/`, written asynchronously and
committed by a rename, so a killed run leaves the last complete one. Restoring puts each
leaf straight onto the devices that its sharding names, whatever mesh and number of
hosts wrote it. A held-out loss is saved inside the checkpoint that it is of, so which
one is the best is known after any kill.

With several processes each writes the parts that its devices hold, to the folder that
all share; all must call every method of `Checkpoints`, in the same order. Where they
share no folder (`bucket_checkpoints`), `PartWriter` and `restore_parts` write and read
folders of this machine.
"""

import contextlib
import ctypes
import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import orbax.checkpoint as ocp

from imagen_jax.config import StageConfig
from imagen_jax.config_file import to_dict
from imagen_jax.errors import UserError
from imagen_jax.retention import StepChoice, choose_step, kept_steps

FOLDER = "checkpoints"

_OTHER_RUN = (
    "is of another model or optimizer; use another --workdir, or the config it was "
    "trained with"
)
_UNREADABLE = (
    "cannot be read; copy it anew, or delete this folder to take the checkpoint before"
)


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
        args = ocp.args.Composite(state=ocp.args.StandardSave(state))
        self._manager.save(step, args=args, metrics=metrics)

    def restore(self, abstract_state: Any) -> Any:
        """Returns the newest state as `abstract_state` (with shardings) lays it out.

        Raises:
          UserError: it is of another model, or cannot be read.
        """
        step = self._manager.latest_step()
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        with _errors_explained(f"{self._manager.directory}/{step}", _OTHER_RUN):
            return _in_own_memory(self._manager.restore(step, args=args)["state"])

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


class PartWriter:
    """Writes what this process's devices hold to a folder that no other writes to.

    The parts of all processes, laid over one another, are a checkpoint. For that each
    piece of an array is a file of its own (no OCDBT, whose index is of one process).
    """

    def __init__(self):
        """Starts the writer."""
        logging.getLogger("absl").addFilter(_is_news)
        options = _alone()
        # The metadata of arrays would be compared between the processes' folders.
        arrays = ocp.type_handlers.ArrayHandler(
            primary_host=options.primary_host, array_metadata_store=None
        )
        handler = ocp.PyTreeCheckpointHandler(
            use_ocdbt=False,
            multiprocessing_options=options,
            type_handler_registry=ocp.type_handlers.create_type_handler_registry(
                (jax.Array, arrays)
            ),
        )
        self._writer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(multiprocessing_options=options),
                state=handler,
            ),
            multiprocessing_options=options,
            # The other way tells its own process through a key that all would set.
            async_options=ocp.options.AsyncOptions(
                create_directories_asynchronously=False
            ),
        )

    def start(self, folder: Path, state: Any) -> None:
        """Starts writing `state`; it is copied off the devices before this returns."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state))
        self._writer.save(folder.absolute(), args=args, force=True)

    def wait(self) -> None:
        """Returns when the part is on disk."""
        self._writer.wait_until_finished()

    def close(self) -> None:
        """Waits, then ends the writer."""
        self._writer.close()


def restore_parts(folder: Path, abstract_state: Any, name: str) -> Any:
    """Returns the state in a folder of this machine, where the parts of all lie.

    Args:
      folder: one checkpoint.
      abstract_state: shapes, with shardings.
      name: of the checkpoint, in the message.

    Raises:
      UserError: it is of another model, or cannot be read.
    """
    options = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=options),
        state=ocp.StandardCheckpointHandler(multiprocessing_options=options),
    )
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
    with (
        ocp.Checkpointer(handler, multiprocessing_options=options) as reader,
        _errors_explained(name, _OTHER_RUN),
    ):
        return _in_own_memory(reader.restore(folder.absolute(), args=args)["state"])


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
        with _errors_explained(f"{folder}/{chosen}", other):
            return manager.restore(chosen, args=args)["state"]["ema_params"][name]


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


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns settings with which orbax waits for no other process."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=process,
        active_processes={process},
        barrier_sync_key_prefix=f"process_{process}",
    )


def _in_own_memory(state: Any) -> Any:
    """Returns the arrays, which are deleted, in memory that a step can take over.

    On CPUs a restored array may lie in memory of numpy. A jitted step to which it is
    donated cannot write there, and the old and the new state would be there at once.
    """
    if jax.default_backend() != "cpu":
        return state
    leaves, tree = jax.tree.flatten(state)
    for i, leaf in enumerate(leaves):
        shards = [
            jax.device_put(shard.data, shard.device, may_alias=False)
            for shard in leaf.addressable_shards
        ]
        leaves[i] = jax.make_array_from_single_device_arrays(
            leaf.shape, leaf.sharding, shards
        )
        leaf.delete()
    _return_freed_memory()
    return tree.unflatten(leaves)


def _return_freed_memory() -> None:
    """Gives the system back what glibc keeps of freed memory; nothing elsewhere.

    What was read, 40 % of the state's size, would stay with the process for good.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _is_news(record: logging.LogRecord) -> bool:
    """Returns False for orbax's warning that there is no OCDBT, at every part."""
    return "Skipping merge of OCDBT" not in str(record.msg)


@contextlib.contextmanager
def _errors_explained(name: str, mismatch: str) -> Iterator[None]:
    """Raises UserErrors for what orbax raises while it reads a checkpoint.

    Args:
      name: of the checkpoint.
      mismatch: what is wrong where its arrays are not those that are wanted.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        cause, meaning = error, mismatch
    except OSError as error:
        cause, meaning = error, _UNREADABLE
    else:
        return
    raise UserError(f"{name} {meaning} ({_first_line(cause)})") from cause


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
