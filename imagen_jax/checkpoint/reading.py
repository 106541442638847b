"""What reading a checkpoint needs: errors in words, values checked, no memory twice."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from imagen_jax.errors import UserError
from imagen_jax.host_memory import return_freed_memory
from imagen_jax.parallel.checksums import tree_checksums

OTHER_RUN = (
    "is of another model or optimizer; use another --workdir, or the config it was "
    "trained with"
)
_UNREADABLE = (
    "cannot be read; copy it anew, or delete this folder to take the checkpoint before"
)
_RAISED = OSError | ValueError | KeyError | TypeError | AttributeError  # by orbax
_NOT_OPENED = 'Error opening "zarr" driver'  # tensorstore, of an array's files


@contextlib.contextmanager
def errors_explained(name: str, mismatch: str) -> Iterator[None]:
    """Raises UserErrors for what orbax raises while it reads a checkpoint.

    Args:
      name: of the checkpoint.
      mismatch: what is wrong where its arrays are not those that are wanted.
    """
    try:
        yield
    except Exception as error:
        # Where the values of an array cannot be read, orbax raises a bare Exception
        # from what has happened.
        cause = error.__cause__ if type(error) is Exception else error
        if not isinstance(cause, _RAISED):
            raise
        damaged = cause is not error or _is_damage(cause)
        meaning = _UNREADABLE if damaged else mismatch
        raise UserError(f"{name} {meaning} ({_first_line(cause)})") from error


def _is_damage(error: Exception) -> bool:
    """Returns whether it is of a file's contents, not of what was asked for."""
    # AttributeError: metadata that are JSON of another shape than orbax writes.
    damage = OSError | UnicodeDecodeError | json.JSONDecodeError | AttributeError
    return isinstance(error, damage) or _NOT_OPENED in str(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def check_values(folder: Path, state: Any, name: str) -> None:
    """Compares what was read of a checkpoint with the checksums written beside it.

    Orbax's formats have none: a bit of a value that has flipped on a disk is not seen
    when it is read. A checkpoint without checksums was written before there were any.

    Args:
      folder: of the checkpoint.
      state: what was read, on devices; a part of the saved tree will do.
      name: of the checkpoint, in the message.

    Raises:
      UserError: a value is not the one that was saved.
    """
    path = folder / "checksums" / "metadata"  # orbax's name for a JSON item's file
    if not path.parent.is_dir():
        return
    saved = json.loads(path.read_text("utf-8"))
    restored = tree_checksums(state, once=True)
    changed = [leaf for leaf, value in restored.items() if saved.get(leaf) != value]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{name} {_UNREADABLE} (the values of {changed[0]}{more} are not those "
            "that were saved)"
        )


def in_own_memory(state: Any) -> Any:
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
        # A copy in flight would keep the old memory past its deletion.
        leaves[i] = jax.block_until_ready(
            jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
        )
        leaf.delete()
        return_freed_memory()  # 40 % of the state's size would stay for good
    return tree.unflatten(leaves)
