import collections
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.pipeline import BatchMaker, rows_of_batch
from imagen_jax.data.records import BadRecordError, Source
from imagen_jax.data.sources.indexed import IndexedSource
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextTokens
from tests.data.sources.archives import numbered, png, write_folder, write_tar


@pytest.fixture
def index(tmp_path):
    """Records 0 to 3 in two tars and 4 to 5 in a folder."""
    inputs = [
        write_tar(tmp_path / "a.tar", numbered(0, 2)),
        write_tar(tmp_path / "b.tar", numbered(2, 4)),
        write_folder(tmp_path / "folder", 4, 6),
    ]
    build_index(inputs, str(tmp_path / "index"), IndexOptions())
    return str(tmp_path / "index")


def test_it_is_a_source_that_threads_and_processes_share(index):
    source = IndexedSource(index)
    assert isinstance(source, Source)
    expected = [source[i] for i in range(6)]
    assert [record.image for record in expected] == [png(i) for i in range(6)]
    assert [source.caption(i) for i in range(6)] == [r.caption for r in expected]
    copy = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.__getitem__, [*range(6)] * 5)) == expected * 5
    with pytest.raises(IndexError, match="record 6 of 6"):
        source[6]


def test_a_record_is_one_read(index, monkeypatch):
    source, reads = IndexedSource(index), []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: reads.append(a[1]) or pread(*a))
    source[3]
    assert reads == [len(png(3))]


def test_batches_are_of_the_pipeline_s_order(index):
    def text_fn(captions):
        numbers = np.array([[int(c.split()[-1])] for c in captions], np.int32)
        return TextTokens(numbers, np.ones_like(numbers, bool))

    for count in (1, 2):
        rows = []
        for host in range(count):
            maker = BatchMaker(
                IndexedSource(index),
                text_fn,
                resolution=4,
                batch_size=4,
                seed=5,
                shard=((host,), count),
            )
            batch = maker.batch(1)
            assert batch.image[:, 0, 0, 0].tolist() == batch.text.ids[:, 0].tolist()
            rows += batch.text.ids[:, 0].tolist()
        assert rows == rows_of_batch(6, 4, 5, 1).tolist()


def test_bad_pictures_are_counted_by_reason(tmp_path):
    truncated = png(1, 40, 40)[:-30]
    members = [*numbered(0, 6), ("t.png", truncated), ("t.txt", b"picture 6")]
    members += [("s.png", png(1, 3, 9)), ("s.txt", b"picture 7")]
    path = write_tar(tmp_path / "a.tar", members)
    build_index([path], str(tmp_path / "index"), IndexOptions())

    def text_fn(captions):
        assert not {"picture 6", "picture 7"} & set(captions)
        return TextTokens(np.zeros((8, 1), np.int32), np.ones((8, 1), bool))

    maker = BatchMaker(
        IndexedSource(str(tmp_path / "index")),
        text_fn,
        resolution=4,
        batch_size=8,
        seed=0,
        max_bad_share=0.5,
    )
    maker.batch(0)
    assert maker.bad == collections.Counter(
        {"corrupt picture": 1, "picture too small": 1}
    )


def touch(path):
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (os.remove, "b.tar, of the index .*, is missing; put it back, or make"),
        (touch, "b.tar, of the index .*, has changed since it was indexed"),
        (lambda path: write_tar(path, numbered(2, 5)), "b.tar.*has changed"),
    ],
)
def test_a_changed_tar_is_one_sentence(tmp_path, index, change, message):
    change(tmp_path / "b.tar")
    with pytest.raises(UserError, match=message):
        IndexedSource(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (os.remove, r"folder/00005\.png, of the index .*, cannot be read"),
        (touch, r"folder/00005\.png.*has changed since it was indexed; put it back"),
    ],
)
def test_a_changed_picture_of_a_folder_is_one_sentence(
    tmp_path, index, change, message
):
    change(tmp_path / "folder" / "00005.png")
    source = IndexedSource(index)
    assert source[4].caption == "picture 4"
    with pytest.raises(UserError, match=message):
        source[5]


def test_a_tar_that_changes_during_training(tmp_path, index):
    source = IndexedSource(index)
    os.truncate(tmp_path / "b.tar", 600)
    with pytest.raises(BadRecordError) as error:
        source[3]
    assert error.value.reason == "truncated file"
    os.remove(tmp_path / "b.tar")
    with pytest.raises(UserError, match=r"b\.tar cannot be read.*put it back"):
        source[3]


@pytest.mark.parametrize(
    ("name", "size"), [("records.npy", -1), ("records.npy", 40), ("texts.bin", -1)]
)
def test_a_cut_index_is_one_sentence(tmp_path, index, name, size):
    path = tmp_path / "index" / name
    os.truncate(path, size if size > 0 else path.stat().st_size + size)
    with pytest.raises(UserError, match=r"is damaged.*delete it and make it again"):
        IndexedSource(index)


@pytest.mark.parametrize(("field", "value"), [("file", 3), ("offset", 2**63)])
def test_a_damaged_record_is_one_sentence(tmp_path, index, field, value):
    path = tmp_path / "index" / "records.npy"
    records = np.load(path)
    records[field][4] = value
    np.save(path, records)
    with pytest.raises(UserError, match=r"is damaged \(record 4.*make it again"):
        IndexedSource(index)[4]


def test_a_damaged_header_is_one_sentence(tmp_path, index):
    path = tmp_path / "index" / "records.npy"
    path.write_bytes(path.read_bytes().replace(b"'width'", b"'width "))
    with pytest.raises(UserError, match=r"is damaged.*make it again"):
        IndexedSource(index)


def test_damaged_texts_are_one_sentence(tmp_path, index):
    path = tmp_path / "index" / "texts.bin"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(UserError, match=r"is damaged.*record 2"):
        IndexedSource(index)[2]


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "\udcff.png").write_bytes(png(1))
    (folder / "\udcff.txt").write_bytes(b"a")
    build_index([str(folder)], str(tmp_path / "index"), IndexOptions())
    record = IndexedSource(str(tmp_path / "index"))[0]
    assert record == (png(1), "a", f"{folder}[\\xff.png]")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket in memory, with the index's local cache in a folder of its own."""
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.mkdirs("/bucket/data", exist_ok=True)
    yield files
    files.rm("/bucket", recursive=True)


def test_data_and_index_in_a_bucket(tmp_path, bucket):
    for name, first in (("a", 0), ("b", 2)):
        path = write_tar(tmp_path / f"{name}.tar", numbered(first, first + 2))
        bucket.put_file(path, f"/bucket/data/{name}.tar")
    for i, patterns in enumerate((["data"], ["data/?.tar"], ["data/a.tar", "data/b*"])):
        out = f"memory://bucket/index{i}"
        patterns = [f"memory://bucket/{pattern}" for pattern in patterns]
        build_index(patterns, out, IndexOptions(), workers=1)
        source = IndexedSource(out)
        assert [source[i].image for i in range(4)] == [png(i) for i in range(4)]
        assert source[0].name == "memory:///bucket/data/a.tar[00000]"
        assert not build_index(patterns, out, IndexOptions())[1]
    bucket.pipe_file("/bucket/data/a.tar", b"changed")
    with pytest.raises(UserError, match=r"data/a\.tar.*has changed since"):
        IndexedSource("memory://bucket/index0")
    bucket.rm("/bucket/data/a.tar")
    with pytest.raises(UserError, match=r"data/a\.tar.*is missing"):
        IndexedSource("memory://bucket/index0")
    with pytest.raises(UserError, match=r"cannot be read.*credentials"):
        source[0]


def test_copied_pictures_in_a_bucket(tmp_path, bucket):
    pictures = [png(i) for i in range(3)]
    table = pa.table({"png": pictures, "text": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet")
    build_index([str(tmp_path / "a.parquet")], "memory://bucket/i", IndexOptions())
    source = IndexedSource("memory://bucket/i")
    assert [source[i].image for i in range(3)] == pictures


def test_a_bucket_without_the_files(bucket):
    with pytest.raises(UserError, match="names no file"):
        build_index(["memory://bucket/none"], "memory://bucket/i", IndexOptions())
    with pytest.raises(UserError, match=r"imagen_jax\[cloud\]"):
        build_index(["nope://bucket/none"], "memory://bucket/i", IndexOptions())
