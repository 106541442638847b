"""Single pictures, and folders of them with captions."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from imagen_jax.data import images
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.folder import FolderSource, list_pictures
from imagen_jax.errors import UserError
from tests.fuzzing import DROPPED, FINE, LostError
from tests.fuzzing.damage import damage_bytes, pick
from tests.fuzzing.records import check_index, write_records

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
MODES = ("RGB", "L", "RGBA", "P", "1", "I;16", "CMYK", "LA")


def encode(rng: np.random.Generator) -> bytes:
    """Returns a small picture in any format and mode."""
    height, width = (int(size) for size in rng.integers(1, 40, 2))
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(noise)
    form, mode = pick(rng, FORMATS), pick(rng, MODES)
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 12))  # orientation; 1 to 8 are defined
    try:
        if mode == "I;16":
            grey = noise[..., 0].astype(np.uint16) * 257
            image = Image.fromarray(grey)
        else:
            image = image.convert(mode)
        image.save(file, form, exif=exif.tobytes())
    except (OSError, KeyError, ValueError):  # a format without that mode
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def make_bomb(rng: np.random.Generator) -> bytes:
    """Returns a small file that claims to be, or unpacks to, something vast."""
    kind = int(rng.integers(3))
    side = int(pick(rng, (7_999, 20_000, 2**31 - 1, 0)))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if kind == 1:  # a text of 64 MB in 64 KB
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        chunks.append((b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 26), 1)))
    rows = bytes(25 * 8) if kind else bytes(1 << 20)
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    if kind == 2:  # a GIF whose screen is vast
        data = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0" + bytes(40)
    return data


def picture(rng: np.random.Generator, folder: Path) -> str:
    """A picture, damaged."""
    del folder
    data = make_bomb(rng) if rng.random() < 0.05 else encode(rng)
    if rng.random() < 0.9:
        data = damage_bytes(rng, data)
    resolution = int(pick(rng, (1, 8, 16, 64)))
    outcome = FINE
    for read in (
        images.picture_size,
        images.decode,
        lambda data: images.decode_square(data, resolution),
    ):
        try:
            result = read(data)
        except BadRecordError as error:
            if not error.reason or "\n" in error.reason:
                raise LostError(f"the reason is {error.reason!r}") from error
            outcome = DROPPED
            continue
        if isinstance(result, np.ndarray):
            if result.dtype != np.uint8 or result.shape[2:] != (3,) or not result.size:
                raise LostError(f"decoded to {result.dtype}{result.shape}")
    return outcome


def folder_of_pictures(rng: np.random.Generator, folder: Path) -> str:
    """A folder with every kind of thing in it that is no record."""
    where = folder / "pictures"
    where.mkdir()
    names = write_records(rng, where)
    for name in names:
        if rng.random() < 0.3:
            _spoil(rng, where, name)
    if rng.random() < 0.4:
        _write_table(rng, where, names)
    _check_source(where)
    listed, left_out = list_pictures(str(where))
    return check_index(
        rng, folder, [str(where)], len(listed) + len(left_out), IndexOptions(), True
    )


def _spoil(rng: np.random.Generator, where: Path, name: str) -> None:
    """Does something to a picture or its caption."""
    file = where / (name if rng.random() < 0.5 else name[:-4] + ".txt")
    if not file.exists():
        return
    match int(rng.integers(9)):
        case 0:
            file.write_bytes(damage_bytes(rng, file.read_bytes()))
        case 1:
            file.unlink()
        case 2:
            file.unlink()
            os.mkfifo(file)
        case 3:
            file.unlink()
            file.symlink_to(pick(rng, ("gone", "/dev/zero", "..", file.name, "/")))
        case 4:
            file.unlink()
            file.mkdir()
        case 5:
            file.write_bytes(b"")
        case 6:
            with open(file, "wb") as opened:
                opened.truncate(1 << 33)
        case 7:
            (where / "deep" / "er").mkdir(parents=True, exist_ok=True)
            file.rename(where / "deep" / "er" / file.name)
        case 8:
            os.rename(file, os.fsencode(where) + b"/\xff" + os.fsencode(file.name))


def _write_table(rng: np.random.Generator, where: Path, names: list[str]) -> None:
    rows = [(name, f"caption, of {name}") for name in names]
    rows.append((str(pick(rng, ("../x.png", "gone.png", "", "\0", "/x.png"))), "out"))
    match pick(rng, ("csv", "tsv", "jsonl")):
        case "jsonl":
            lines = [json.dumps({"file_name": n, "text": c}) for n, c in rows]
            form = "jsonl"
        case "csv":
            lines = ["file_name,text", *(f'{n},"{c}"' for n, c in rows)]
            form = "csv"
        case _:
            lines = ["file_name\ttext", *(f"{n}\t{c}" for n, c in rows)]
            form = "tsv"
    data = "\n".join(lines).encode()
    if rng.random() < 0.5:
        data = damage_bytes(rng, data)
    (where / f"{pick(rng, ('metadata', 'captions'))}.{form}").write_bytes(data)


def _check_source(where: Path) -> None:
    """Reads the folder as it is; each record is there, bad or a sentence."""
    source = FolderSource(str(where))
    for i in range(len(source)):
        try:
            name = source.name(i)
            if os.stat(os.fsencode(where / name)).st_size < 1 << 30:
                source[i]
        except (BadRecordError, UserError, OSError):
            continue
