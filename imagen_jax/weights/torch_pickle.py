"""Reads torch checkpoints (pytorch_model.bin) without torch and without running them.

Two containers exist, both with a pickle of the tensors' descriptions that only
`torch_unpickler` reads:

  since torch 1.6   a zip: ROOT/data.pkl, and ROOT/data/KEY with the bytes of each
                    storage, not compressed, so that they can be read in place
  before            pickles of a magic number, the protocol, the machine, the tensors
                    and the list of keys; then, in the order of that list, each
                    storage's number of elements (int64) and its bytes

Source: torch/serialization.py.
"""

import io
import os
import struct
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.weights.lazy import LazyTensors, read_array
from imagen_jax.weights.torch_unpickler import Storage, TorchTensor, TorchUnpickler

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older container
_PROTOCOL = 1001


class _Content(NamedTuple):
    """The unpickled structure, and where each storage's bytes begin, by its key."""

    state: Any
    offsets: Mapping[str, int]


def open_torch(path: str | os.PathLike) -> LazyTensors:
    """Returns the tensors of a saved state_dict; each is read when it is asked for.

    Entries that are no tensors are left out. Tensors that share memory in the file are
    read for themselves.

    Args:
      path: what `torch.save(model.state_dict(), path)` wrote, of any torch since 0.4.

    Raises:
      UserError: if the file is missing, cut off, of another kind, or if its pickle
        asks for anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; give a torch .bin file")
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            content = _read_zip(file, path) if is_zip else _read_legacy(file, path)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle fails in whatever way it likes
        raise UserError(
            f"{path} is not a complete torch checkpoint ({error!r}); delete it and "
            "fetch it again"
        ) from error
    tensors = {
        name: tensor
        for name, tensor in _entries(content.state)
        if isinstance(name, str) and isinstance(tensor, TorchTensor)
    }
    if not tensors:
        raise UserError(
            f"{path} has no tensors at its top level; save the model's state_dict()"
        )
    return LazyTensors(
        {
            name: partial(_read, path, content.offsets[tensor.storage.key], tensor)
            for name, tensor in tensors.items()
        }
    )


def _entries(state: Any) -> list[tuple[Any, Any]]:
    # Of dict itself: a pickle can hide an object's own `items` behind an attribute.
    return list(dict.items(state)) if isinstance(state, dict) else []


def _read_zip(file: io.BufferedIOBase, path: Path) -> _Content:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} members are called data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise UserError(f"{path} was saved on a big-endian machine; convert it")
        unpickler = TorchUnpickler(io.BytesIO(archive.read(pickles[0])), path)
        state = unpickler.load()
        offsets = {
            key: _member_offset(file, archive.getinfo(f"{root}data/{key}"), storage)
            for key, storage in unpickler.storages.items()
        }
    return _Content(state, offsets)


def _member_offset(
    file: io.BufferedIOBase, member: zipfile.ZipInfo, storage: Storage
) -> int:
    """Returns where a member's bytes begin.

    Raises:
      ValueError: if they are compressed or fewer than the storage's.
    """
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    if member.file_size < storage.size * storage.dtype.itemsize:
        raise ValueError(f"{member.filename} has only {member.file_size} bytes")
    file.seek(member.header_offset + 26)  # the lengths of the name and of extra fields
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name_length + extra_length


def _read_legacy(file: io.BufferedIOBase, path: Path) -> _Content:
    if TorchUnpickler(file, path).load() != _MAGIC:
        raise ValueError("no magic number")
    protocol = TorchUnpickler(file, path).load()
    machine = TorchUnpickler(file, path).load()
    if protocol != _PROTOCOL or not machine["little_endian"]:
        raise UserError(
            f"{path} has protocol {protocol}, {machine}; only protocol {_PROTOCOL} of "
            "a little-endian machine is read: convert it to .safetensors"
        )
    unpickler = TorchUnpickler(file, path)
    state = unpickler.load()
    keys = TorchUnpickler(file, path).load()
    file_size = os.fstat(file.fileno()).st_size
    offsets = {}
    position = file.tell()
    for key in keys:
        storage = unpickler.storages[key]
        file.seek(position)
        size = int.from_bytes(file.read(8), "little")
        offsets[key] = position + 8
        position += 8 + size * storage.dtype.itemsize
        if size < storage.size or position > file_size:
            raise ValueError(f"the storage {key} ends at byte {position}")
    return _Content(state, offsets)


def _read(path: Path, storage_offset: int, tensor: TorchTensor) -> np.ndarray:
    """Returns the tensor in C order; only the bytes that it spans are read."""
    dtype = tensor.storage.dtype
    offset = storage_offset + tensor.offset * dtype.itemsize
    span = read_array(path, offset, dtype, (tensor.span(),))
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(span, tensor.shape, strides)
    return np.asarray(view, order="C")
