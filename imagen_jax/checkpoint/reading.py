"""What reading a checkpoint needs: errors in words, and no memory taken twice."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax

from imagen_jax.errors import UserError
from imagen_jax.host_memory import return_freed_memory

OTHER_RUN = (
    "is of another model or optimizer; use another --workdir, or the config it was "
    "trained with"
)
_UNREADABLE = (
    "cannot be read; copy it anew, or delete this folder to take the checkpoint before"
)
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
        if not isinstance(cause, OSError | ValueError | KeyError | TypeError):
            raise
        damaged = cause is not error or _is_damage(cause)
        meaning = _UNREADABLE if damaged else mismatch
        raise UserError(f"{name} {meaning} ({_first_line(cause)})") from error


def _is_damage(error: Exception) -> bool:
    """Returns whether it is of a file's contents, not of what was asked for."""
    damage = OSError | UnicodeDecodeError | json.JSONDecodeError
    return isinstance(error, damage) or _NOT_OPENED in str(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


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
        leaves[i] = jax.make_array_from_single_device_arrays(
            leaf.shape, leaf.sharding, shards
        )
        leaf.delete()
    return_freed_memory()  # 40 % of the state's size would stay for good
    return tree.unflatten(leaves)
