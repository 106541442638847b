"""Tensors that are read from disk one at a time.

The encoder of T5-XXL has 19 GB of float32 weights: more than most hosts should hold
beside the copy on the accelerator. So every reader of this room hands out the names at
once and reads a tensor only when it is asked for. Nothing is kept or memory-mapped:
what a caller drops is gone, and the peak is the largest tensor.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from imagen_jax.errors import UserError


class LazyTensors(Mapping):  # not Mapping[...]: type checks at run time read an item
    """A read-only mapping from names to tensors; `tensors[name]` reads that one now.

    Length, names and `in` cost nothing; each access reads anew.
    """

    def __init__(self, reads: Mapping[str, Callable[[], np.ndarray]]):
        """Takes the function that reads each tensor."""
        self._reads = dict(reads)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._reads[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._reads  # Mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


def read_array(
    path: str | os.PathLike, offset: int, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns an array whose bytes stand at `offset` of a file in C order.

    Args:
      path: the file.
      offset: in bytes from its start.
      dtype: of the stored numbers, ml_dtypes' types included.
      shape: of the array; a size of 0 is allowed.

    Raises:
      UserError: if the file cannot be read or ends before the array does.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    try:
        stored = np.fromfile(path, np.uint8, count=num_bytes, offset=offset)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if stored.size != num_bytes:
        raise UserError(
            f"{path} has changed and ends before a tensor that its header names; "
            "fetch it again"
        )
    return stored.view(dtype).reshape(shape)
