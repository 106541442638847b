"""Writes torch checkpoints by hand, opcode by opcode: well-formed, damaged or hostile.

So that what is not torch's own can be tested, and without torch. Protocol 2 throughout,
as torch's.
"""

import pickle
import struct
import zipfile
from pathlib import Path

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def function(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(
    key: str, size: int, kind: str = "FloatStorage", marker: str = "storage"
) -> bytes:
    fields = (text(marker), function("torch", kind), text(key), text("cpu"))
    return b"(" + b"".join(fields) + number(size) + b"tQ"


def tensor(
    storage: bytes, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> bytes:
    """Returns the opcodes of a tensor as torch writes it."""
    hooks = function("collections", "OrderedDict") + b")R"
    arguments = number(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks
    rebuild = function("torch._utils", "_rebuild_tensor_v2")
    return rebuild + b"(" + storage + arguments + b"tR"


def state(**entries: bytes) -> bytes:
    """Returns a whole pickle of a dict."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"\x80\x02}(" + items + b"u."


def write_zip(
    path: Path,
    pickled: bytes,
    storages: dict[str, bytes],
    *,
    compression: int = zipfile.ZIP_STORED,
    byteorder: str = "little",
) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)


def write_legacy(
    path: Path,
    pickled: bytes,
    storages: dict[str, bytes],
    *,
    protocol: int = 1001,
    itemsize: int = 4,
) -> None:
    """Writes the container of torch before 1.6."""
    parts = [pickle.dumps(part, 2) for part in (MAGIC, protocol, MACHINE)]
    parts += [pickled, pickle.dumps(list(storages), 2)]
    for data in storages.values():
        parts += [(len(data) // itemsize).to_bytes(8, "little"), data]
    path.write_bytes(b"".join(parts))
