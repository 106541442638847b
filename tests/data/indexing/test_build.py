import csv
import json
import os
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_jax.data.indexing import build
from imagen_jax.data.indexing.build import build_index, counts_text
from imagen_jax.data.indexing.format import RECORD
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.indexed import IndexedSource
from imagen_jax.errors import UserError
from tests.data.sources.archives import encoded, numbered, png, write_folder, write_tar


def write_parquet(path, first, last, **settings):
    """Writes the records of `numbered` in img2dataset's layout."""
    numbers = range(first, last)
    table = pa.table(
        {
            "png": [png(i) for i in numbers],
            "caption": [f"picture {i}" for i in numbers],
        }
    )
    pq.write_table(table, path, **settings)
    return str(path)


@pytest.fixture
def inputs(tmp_path):
    """Records 0 to 9 in every kind of input, in order."""
    data = tmp_path / "data"
    data.mkdir()
    return [
        write_tar(data / "a.tar", numbered(0, 3)),
        write_parquet(data / "b.parquet", 3, 5, compression="zstd"),
        write_parquet(data / "c.parquet", 5, 7, compression="none"),
        write_folder(data / "d", 7, 9),
        write_parquet(data / "e.parquet", 9, 10, compression="snappy"),
    ]


def records(path):
    source = IndexedSource(path)
    return [source[i] for i in range(len(source))]


def dropped(path):
    with open(os.path.join(path, "dropped.csv"), newline="") as file:
        return [*csv.DictReader(file)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_kind_of_input_in_one_index(tmp_path, inputs):
    out = tmp_path / "index"
    manifest, is_new = build_index(inputs, str(out), IndexOptions())
    assert is_new
    found = records(str(out))
    assert [record.caption for record in found] == [f"picture {i}" for i in range(10)]
    assert [record.image for record in found] == [png(i) for i in range(10)]
    assert len({record.name for record in found}) == 10
    assert found[0].name == f"{inputs[0]}[00000]"
    assert (manifest.num_records, manifest.num_captions) == (10, 10)
    assert manifest.dropped == {}
    # Only what is compressed is copied.
    assert [file.path for file in manifest.files if file.kind == "pack"] == [
        "pictures-1.bin",
        "pictures-4.bin",
    ]
    assert {path.name for path in out.iterdir()} == {
        *("index.json", "records.npy", "texts.bin", "dropped.csv"),
        *("pictures-1.bin", "pictures-4.bin"),
    }


def test_records_hold_what_was_measured(tmp_path):
    members = [("x.png", png(1, 20, 30)), ("x.txt", b"a"), *numbered(5, 7)]
    members += [("z.png", png(3)), ("z.txt", b"picture 6")]
    path = write_tar(tmp_path / "a.tar", members)
    manifest, _ = build_index([path], str(tmp_path / "index"), IndexOptions())
    found = np.load(tmp_path / "index" / "records.npy")
    assert found.dtype == RECORD
    assert found["width"].tolist() == [30, 8, 8, 8]
    assert found["height"].tolist() == [20, 8, 8, 8]
    # SHA-256 of "a" begins so.
    assert found["caption_hash"][0] == 0xCA978112CA1BBDCA
    assert found["caption_hash"][2] == found["caption_hash"][3]
    assert manifest.num_captions == 3


def test_processes_write_the_same_index(tmp_path, inputs):
    build_index(inputs, str(tmp_path / "one"), IndexOptions(), workers=1)
    build_index(inputs, str(tmp_path / "two"), IndexOptions(), workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_dropped_stands_in_the_table(tmp_path):
    jpeg = png(3, 100, 100)
    members = [
        *numbered(0, 1),
        *[("small.png", png(1, 7, 20)), ("small.txt", b"a fox")],
        *[("narrow.png", png(1, 8, 25)), ("narrow.txt", b"a fox")],
        *[("short.png", png(1)), ("short.txt", b"fo")],
        *[("long.png", png(1)), ("long.txt", b"a fox " * 10)],
        *[("bad.png", b"no picture"), ("bad.txt", b"a fox")],
        *[("cut.png", jpeg[: len(jpeg) // 2]), ("cut.txt", b"a fox")],
        *[("none.png", png(1)), ("n\u00f6.txt", b"a fox")],
    ]
    path = write_tar(tmp_path / "a.tar", members)
    options = IndexOptions(min_size=8, max_aspect=3.0, min_caption=3, max_caption=50)
    out = str(tmp_path / "index")
    manifest, _ = build_index([path], out, options)
    # The cut picture's header is whole: training will find it.
    assert [record.caption for record in records(out)[:1]] == ["picture 0"]
    assert manifest.num_records == 2
    table = {row["name"]: row for row in dropped(out)}
    reasons = {name: row["reason"] for name, row in table.items()}
    assert reasons == {
        "small": "picture too small",
        "narrow": "picture too narrow",
        "short": "caption too short",
        "long": "caption too long",
        "bad": "corrupt picture",
        "none": "no caption",
        "n\u00f6": "no picture",
    }
    assert table["narrow"]["detail"] == "picture too narrow: 25 x 8"
    assert {row["file"] for row in table.values()} == {path}
    assert manifest.dropped == dict.fromkeys(reasons.values(), 1)
    whole, _ = build_index([path], out + "2", IndexOptions(decode=True))
    assert whole.dropped["corrupt picture"] == 2


def test_a_decompression_bomb_is_counted(tmp_path):
    # 20,000 x 20,000 pixels in a header; Pillow's own limit is below that.
    bomb = bytearray(png(1))
    bomb[16:24] = (20_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    members = [*numbered(0, 1), ("x.png", bytes(bomb)), ("x.txt", b"a")]
    path = write_tar(tmp_path / "a.tar", members)
    manifest, _ = build_index([path], str(tmp_path / "index"), IndexOptions())
    assert manifest.dropped == {"picture too large": 1}


def test_a_format_that_is_read_whole(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    data = encoded(noise, "WEBP", lossless=True)
    assert len(data) > 2**16  # and no part of a WebP tells its size
    path = write_tar(tmp_path / "a.tar", [("x.webp", data), ("x.txt", b"a")])
    build_index([path], str(tmp_path / "index"), IndexOptions())
    assert np.load(tmp_path / "index" / "records.npy")["width"].tolist() == [300]


def test_an_index_that_is_there_is_left_alone(tmp_path, inputs):
    out = tmp_path / "index"
    made, _ = build_index(inputs, str(out), IndexOptions())
    before = contents(out)
    again, is_new = build_index(inputs, str(out), IndexOptions())
    assert (again, is_new) == (made, False)
    for others, options in (
        (inputs[:2], IndexOptions()),
        (inputs, IndexOptions(min_size=1)),
    ):
        with pytest.raises(UserError, match="index of other files or options; give"):
            build_index(others, str(out), options)
    write_folder(tmp_path / "data" / "d", 11, 12)  # one picture more
    with pytest.raises(UserError, match="index of other files or options"):
        build_index(inputs, str(out), IndexOptions())
    assert contents(out) == before


def test_an_interrupted_run_leaves_no_index(tmp_path, inputs, monkeypatch):
    out = tmp_path / "index"

    def interrupt(file, options, pack):
        if file.path == inputs[2]:
            raise KeyboardInterrupt
        return scan_input(file, options, pack)

    scan_input = build.scan_input
    monkeypatch.setattr(build, "scan_input", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_index(inputs, str(out), IndexOptions())
    assert [*out.iterdir()] == []
    monkeypatch.setattr(build, "scan_input", scan_input)
    assert build_index(inputs, str(out), IndexOptions())[0].num_records == 10


def test_folders_and_globs_stand_for_their_files(tmp_path, inputs):
    data = tmp_path / "data"
    (data / ".x.tar").write_text("hidden")
    for i, patterns in enumerate(([str(data)], [str(data / "*.tar"), f"{data}/*quet"])):
        manifest, _ = build_index(patterns, str(tmp_path / str(i)), IndexOptions())
        found = [os.path.basename(file.path) for file in manifest.inputs]
        assert found == ["a.tar", "b.parquet", "c.parquet", "e.parquet"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["gone.tar"], r"gone\.tar names no file; give \.tar and \.parquet"),
        (["*.zip"], r"\*\.zip names no file"),
        (["a.tar.gz"], r"a\.tar\.gz is no \.tar or \.parquet.*not compressed"),
        (["data/a.tar", "data/*.tar"], r"a\.tar is given 2 times; name each file once"),
        (["empty"], "empty is no folder with pictures"),
        (["bad.tar"], r"no record is kept \(archive is damaged: 1\); check the files"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path, inputs, monkeypatch, patterns, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tar.gz").write_text("")
    (tmp_path / "bad.tar").write_text("no tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        build_index(patterns, "index", IndexOptions())
    assert not (tmp_path / "index" / "index.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.truncate(0), "is damaged.*make it again"),
        (lambda data: data.write(b'{"version": 2}'), "is of version 2, this program"),
        (lambda data: data.write(b"[]" + b" " * 5000), "is damaged"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path, inputs, change, message):
    out = str(tmp_path / "index")
    build_index(inputs[:1], out, IndexOptions())
    with open(tmp_path / "index" / "index.json", "r+b") as file:
        change(file)
        file.truncate()
    with pytest.raises(UserError, match=message):
        build_index(inputs[:1], out, IndexOptions())
    with pytest.raises(UserError, match=message):
        IndexedSource(out)


def test_progress_is_reported(tmp_path, inputs, monkeypatch):
    monkeypatch.setattr(build, "_REPORT_EVERY_SEC", 0.0)
    lines = []
    build_index(inputs[:2], str(tmp_path / "i"), IndexOptions(), report=lines.append)
    assert lines == [
        "1 of 2 inputs: 3 records kept, 0 dropped",
        "2 of 2 inputs: 5 records kept, 0 dropped",
    ]


def test_the_manifest_is_json_that_names_the_inputs(tmp_path, inputs):
    build_index(inputs[:1], str(tmp_path / "index"), IndexOptions(min_size=3))
    fields = json.loads((tmp_path / "index" / "index.json").read_text())
    assert fields["options"]["min_size"] == 3
    status = os.stat(inputs[0])
    assert fields["files"] == [
        {
            "path": inputs[0],
            "kind": "archive",
            "size": status.st_size,
            "stamp": str(status.st_mtime_ns),
        }
    ]


def test_counts_by_frequency():
    assert counts_text({"a": 1, "c": 3, "b": 3}) == "b: 3, c: 3, a: 1"
