"""Unpickles the structure of a torch checkpoint, and nothing else.

A pickle is a program: it may import any function and call it, so loading one is
running it. A checkpoint needs four things only: `torch._utils._rebuild_tensor_v2` and
`_rebuild_parameter`, `collections.OrderedDict`, and the storage types such as
`torch.FloatStorage`. This unpickler knows these by name and answers with its own
stand-ins; it imports nothing, and any other name ends the reading. What comes out are
descriptions of tensors: which storage, from which element, with which shape and
strides. The numbers are not in the pickle but beside it; see `torch_pickle`.
"""

import io
import os
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from imagen_jax.errors import UserError


class Storage(NamedTuple):
    """A run of numbers: their type, the key of their bytes, and how many there are."""

    dtype: np.dtype
    key: str
    size: int


class TorchTensor(NamedTuple):
    """A strided view of a storage; offset and strides count elements, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def span(self) -> int:
        """Returns how many elements of the storage the view reaches over."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.strides, strict=True)
        return 1 + sum((size - 1) * stride for size, stride in steps)


def _rebuild_tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, *_: Any
) -> TorchTensor:
    """Stands in for torch's function; whether it needs gradients is of no interest."""
    tensor = TorchTensor(storage, offset, tuple(shape), tuple(strides))
    numbers = (offset, *tensor.shape, *tensor.strides)
    if not isinstance(storage, Storage) or len(tensor.shape) != len(tensor.strides):
        raise pickle.UnpicklingError("a tensor without storage or strides")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor with negative sizes")
    if offset + tensor.span() > storage.size:
        raise pickle.UnpicklingError("a tensor that reaches beyond its storage")
    return tensor


def _rebuild_parameter(tensor: TorchTensor, *_: Any) -> TorchTensor:
    return tensor


_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): np.dtype(dtype) for name, dtype in _STORAGES.items()},
}


class TorchUnpickler(pickle.Unpickler):
    """Reads one pickle of a torch file; `load` may raise anything if it is damaged.

    Attributes:
      storages: those that the pickle has named so far, by key.
    """

    def __init__(self, file: io.BufferedIOBase, path: str | os.PathLike):
        """Takes the file at the start of a pickle, and its name for messages."""
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in of an admitted name; called for each global.

        Raises:
          UserError: for any other name.
        """
        if (module, name) not in _ADMITTED:
            raise UserError(
                f"{self._path} asks for {module}.{name}, which a checkpoint of tensors "
                "does not need and which could run code; nothing was run: save the "
                "model's state_dict() alone, or fetch its .safetensors files"
            )
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the storage that a tensor refers to."""
        kind, dtype, key, _location, size, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise pickle.UnpicklingError("a reference to something unknown")
        if type(size) is not int or size < 0:
            raise pickle.UnpicklingError("a storage without a size")
        storage = Storage(dtype, str(key), size)
        self.storages[storage.key] = storage
        return storage
