"""Tars and Parquet files of records, and indices of them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.indexed import IndexedSource
from tests.fuzzing import DROPPED, FINE, LostError
from tests.fuzzing.damage import damage_bytes, damage_file, files_below, pick
from tests.fuzzing.pictures import encode, make_bomb
from tests.fuzzing.records import check_index, make_png

NAMES = (
    "../{i}",
    "/{i}",
    "a/../../{i}",
    "a\n{i}",
    "\udcff{i}",
    "x" * 200 + "{i}",
    "{i}",
)

CAPTIONS = (
    *((b"", ".txt"), (b"\xff", ".txt"), (b"a", ".json"), (b"[" * 2000, ".json")),
    *((b'{"caption": []}', ".json"), (b'{"text": "a\\ud800"}', ".json")),
    *((b'{"caption": ["a", 1]}', ".json"), (b'{"caption": "a"}', ".json")),
)


def _picture(rng: np.random.Generator) -> bytes:
    """Returns a picture; in one case of five it is one to be dropped."""
    match int(rng.integers(15)):
        case 0:
            return damage_bytes(rng, make_png(rng))
        case 1:
            return make_bomb(rng)
        case 2:
            return encode(rng)
    return make_png(rng)


def tar(rng: np.random.Generator, folder: Path) -> str:
    """A tar with odd members, and then damaged or not."""
    path = folder / "a.tar"
    num = int(rng.integers(2, 7))
    form = pick(rng, (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    odd = rng.random() < 0.6
    counted = 0
    with tarfile.open(path, "w", format=form) as archive:
        for i in range(num):
            stem = f"{i:03}"
            if odd and rng.random() < 0.3 and form != tarfile.USTAR_FORMAT:
                stem = pick(rng, NAMES).format(i=i)
            counted += 1
            caption, suffix = b"a caption", ".txt"
            if odd and rng.random() < 0.5:
                caption, suffix = pick(rng, CAPTIONS)
            for name, data in (
                (stem + ".png", _picture(rng)),
                (stem + suffix, caption),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                if odd and rng.random() < 0.1:
                    member.type = pick(
                        rng, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
                    )
                    member.linkname = "../../x"
                    member.size, data = 0, b""
                archive.addfile(member, io.BytesIO(data))
    damaged = rng.random() < 0.6
    if damaged:
        data = path.read_bytes()
        blocks = int(rng.integers(1, len(data) // tarfile.BLOCKSIZE))
        cut = data[: blocks * tarfile.BLOCKSIZE]  # may end between two members
        path.write_bytes(cut if rng.random() < 0.2 else damage_bytes(rng, data))
    options = IndexOptions(decode=bool(rng.random() < 0.5))
    return check_index(rng, folder, [str(path)], counted, options, not damaged)


def parquet(rng: np.random.Generator, folder: Path) -> str:
    """A Parquet file with odd columns and rows, and then damaged or not."""
    num = int(rng.integers(2, 12))
    pictures = [_picture(rng) if rng.random() < 0.9 else None for _ in range(num)]
    captions = [pick(rng, ("a fox", "", None, "two\nlines")) for _ in range(num)]
    image = pa.array(pictures, pa.binary())
    text = pa.array(captions, pa.string())
    match int(rng.integers(10)):
        case 0:
            image = pa.StructArray.from_arrays([image], ["bytes"])
        case 1:
            text = pa.array([[c, "b"] if c else None for c in captions])
        case 2:
            text = pa.array([b"\xff" * 3] * num).view(pa.string())
        case 3:
            text = pa.array(range(num))
    column = pick(rng, ("text", "text", "caption", "x"))
    table = pa.table({"image": image, column: text})
    path = folder / "a.parquet"
    pq.write_table(
        table,
        path,
        compression=pick(rng, ("NONE", "SNAPPY", "ZSTD", "GZIP")),
        row_group_size=int(rng.integers(1, 8)),
        use_dictionary=bool(rng.integers(2)),
    )
    damaged = rng.random() < 0.6
    if damaged:
        path.write_bytes(damage_bytes(rng, path.read_bytes()))
    return check_index(rng, folder, [str(path)], num, IndexOptions(), not damaged)


def index(rng: np.random.Generator, folder: Path) -> str:
    """An index whose own files were damaged after it was made."""
    where = folder / "pictures"
    where.mkdir()
    num = 4
    for i in range(num):
        (where / f"{i}.png").write_bytes(make_png(rng))
        (where / f"{i}.txt").write_text(f"picture {i}")
    build_index([str(where)], str(folder / "index"), IndexOptions())
    damage_file(rng, pick(rng, files_below(folder / "index")))
    source = IndexedSource(str(folder / "index"))
    if len(source) != num:
        raise LostError(f"{len(source)} records of {num} are left")
    outcome = FINE
    for i in range(num):
        try:
            source[i]
        except BadRecordError:
            outcome = DROPPED
    return outcome
