"""Parts of a checkpoint: what each process writes to a folder of its own machine."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from imagen_jax.checkpoint.reading import (
    OTHER_RUN,
    check_values,
    errors_explained,
    in_own_memory,
)
from imagen_jax.parallel.checksums import tree_checksums


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
        # The other way tells its own process through a key that all would set, and one
        # would write into a folder that only another one has made.
        at_once = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        self._writer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(
                    multiprocessing_options=options, async_options=at_once
                ),
                state=handler,
                checksums=ocp.JsonCheckpointHandler(multiprocessing_options=options),
            ),
            multiprocessing_options=options,
            async_options=at_once,
        )

    def start(self, folder: Path, state: Any) -> None:
        """Starts writing `state`; it is copied off the devices before this returns."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state),
            checksums=ocp.args.JsonSave(tree_checksums(state)),
        )
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
        errors_explained(name, OTHER_RUN),
    ):
        state = reader.restore(folder.absolute(), args=args)["state"]
        check_values(folder, state, name)
        return in_own_memory(state)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns settings with which orbax waits for no other process."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=process,
        active_processes={process},
        barrier_sync_key_prefix=f"process_{process}",
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Returns False for orbax's warning that there is no OCDBT, at every part."""
    return "Skipping merge of OCDBT" not in str(record.msg)
