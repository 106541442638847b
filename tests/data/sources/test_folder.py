import os
import pickle

import pytest

from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError, Record, Source
from imagen_jax.data.sources.folder import FolderSource, folder_stamp, scan_folder
from imagen_jax.errors import UserError
from tests.data.sources.archives import png, write_folder


def reasons(folder):
    """Returns (captions, reason by number) of all records of a `FolderSource`."""
    source, captions, bad = FolderSource(str(folder)), [], {}
    for i in range(len(source)):
        try:
            captions.append(source[i].caption)
        except BadRecordError as error:
            bad[i] = error.reason
    return captions, bad


def test_captions_beside_the_pictures(tmp_path):
    write_folder(tmp_path / "b", 0, 2)
    write_folder(tmp_path / "a" / "deep", 5, 6)
    write_folder(tmp_path / ".hidden", 7, 8)
    (tmp_path / "b" / ".00000.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    source = FolderSource(str(tmp_path))
    assert isinstance(source, Source)
    paths = ["a/deep/00005.png", "b/00000.png", "b/00001.png"]
    expected = [
        Record(png(i), f"picture {i}", f"{tmp_path}/{path}")
        for i, path in zip((5, 0, 1), paths, strict=True)
    ]
    assert [source[i] for i in range(len(source))] == expected
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in range(3)] == expected
    with pytest.raises(IndexError, match="record 3 of 3"):
        source[3]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", 'file_name,caption\nb/00000.png,"one, two"\n00002.png,c\n'),
        ("captions.tsv", "text\tfile_name\none, two\tb/00000.png\nc\t./00002.png\n"),
        (
            "metadata.jsonl",
            '\ufeff{"file_name": "b/00000.png", "text": "one, two"}\n\n'
            '{"file_name": "00002.png", "caption": "c", "more": 1}\n',
        ),
    ],
)
def test_captions_in_a_table(tmp_path, name, text):
    write_folder(tmp_path / "b", 0, 2)
    write_folder(tmp_path, 2, 3)
    (tmp_path / name).write_text(text, encoding="utf-8")
    # 00000 has a .txt too, which the table replaces: one place for all captions.
    assert reasons(tmp_path) == (["c", "one, two"], {2: "no caption"})


def test_bad_captions_are_counted_by_reason(tmp_path):
    for i, data in enumerate([b"a", b"\xff", b" \n"]):
        (tmp_path / f"{i}.png").write_bytes(png(i))
        (tmp_path / f"{i}.txt").write_bytes(data)
    (tmp_path / "3.png").write_bytes(png(3))
    (tmp_path / "4.png").write_bytes(png(4))
    (tmp_path / "4.txt").mkdir()
    expected = {
        1: "caption is not UTF-8",
        2: "no caption",
        3: "no caption",
        4: "not a plain file",
    }
    assert reasons(tmp_path) == (["a"], expected)
    *_, b, c, d, e = scan_folder(str(tmp_path), IndexOptions())
    assert [drop.reason for drop in (b, c, d, e)] == [*expected.values()]


def test_bad_captions_in_json_are_counted_by_reason(tmp_path):
    write_folder(tmp_path, 0, 3)
    lines = ['"a"', "null", '"\\ud800"']
    (tmp_path / "metadata.jsonl").write_text(
        "".join(
            f'{{"file_name": "0000{i}.png", "caption": {text}}}\n'
            for i, text in enumerate(lines)
        )
    )
    expected = {1: "no caption", 2: "caption is not UTF-8"}
    assert reasons(tmp_path) == (["a"], expected)


def test_a_table_s_picture_that_is_not_there_is_counted(tmp_path):
    write_folder(tmp_path, 0, 1)
    (tmp_path / "metadata.csv").write_text(
        "file_name,caption\n00000.png,a\ngone.png,b\n../x.png,c\n"
    )
    kept, *dropped = scan_folder(str(tmp_path), IndexOptions())
    assert kept.caption == "a"
    assert [(drop.name, drop.reason) for drop in dropped] == [
        ("../x.png", "no picture"),
        ("gone.png", "no picture"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("metadata.csv", b"a,b\n1,2\n", "line 2 has no text in 'file_name'.*'a', 'b'"),
        ("metadata.csv", b"file_name,x\na.png,b\n", "in 'caption' or 'text'.*'x'"),
        ("metadata.csv", b"file_name,text\na.png,b,c\n", "line 2 is malformed"),
        ("metadata.csv", b"file_name,text\na.png\n", "line 2 is malformed"),
        ("metadata.csv", b'file_name,text\na.png,"b\n', "malformed.*in quotes"),
        ("metadata.csv", b"file_name,text\na.png,\xff\n", "not UTF-8.*byte"),
        ("metadata.csv", b"file_name,text\na.png,b\n./a.png,c\n", "line 3 names a.png"),
        (
            "captions.jsonl",
            b"{}\n",
            "line 1 has no text .*; it has nothing",
        ),
        ("captions.jsonl", b"[1]\n", "line 1 is no object"),
        ("captions.jsonl", b"\n{\n", "line 2 is not JSON"),
        (
            "captions.jsonl",
            b'{"file_name": "a.png", "text": 3}',
            "no text in 'caption' or 'text'",
        ),
    ],
)
def test_a_malformed_table_is_one_sentence(tmp_path, name, data, message):
    write_folder(tmp_path, 0, 1)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        FolderSource(str(tmp_path))


def test_what_would_block_or_never_end_is_not_opened(tmp_path):
    """A pipe without a writer, as picture and as caption, and a vast caption."""
    write_folder(tmp_path, 0, 4)
    for name in ("00001.png", "00002.txt"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    with open(tmp_path / "00003.txt", "wb") as file:
        file.truncate(1 << 40)
    expected = {1: "not a plain file", 2: "not a plain file", 3: "caption too long"}
    assert reasons(tmp_path) == (["picture 0"], expected)
    found = list(scan_folder(str(tmp_path), IndexOptions()))
    assert [drop.reason for drop in found[1:]] == [*expected.values()]


def test_folders_that_are_left_out_are_counted(tmp_path, monkeypatch):
    write_folder(tmp_path / "a", 0, 1)
    write_folder(tmp_path / "closed", 1, 2)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    *dropped, kept = scan_folder(str(tmp_path), IndexOptions())
    assert kept.name == "a/00000.png"
    assert [(drop.name, drop.reason) for drop in dropped] == [
        ("link", "link to a folder"),
        ("closed", "folder cannot be read"),
    ]
    with pytest.raises(UserError, match=r"closed cannot be read \(Permission denied\)"):
        FolderSource(str(tmp_path))


def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    write_folder(tmp_path, 0, 1)
    (tmp_path / "metadata.csv").write_text("file_name,text\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match=r"metadata\.csv cannot be read \(Permission"):
        FolderSource(str(tmp_path))


def test_two_tables_are_refused(tmp_path):
    write_folder(tmp_path, 0, 1)
    for name in ("metadata.csv", "captions.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=r"metadata\.csv and captions\.jsonl; keep one"):
        FolderSource(str(tmp_path))


@pytest.mark.parametrize("name", ["", "missing", "file"])
def test_no_folder_with_pictures(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no folder with pictures; give one"):
        FolderSource(str(tmp_path / name))


def test_a_picture_that_has_gone_is_one_sentence(tmp_path):
    source = FolderSource(write_folder(tmp_path, 0, 1))
    (tmp_path / "00000.png").unlink()
    with pytest.raises(UserError, match=r"00000\.png cannot be read.*start again"):
        source[0]


def test_the_stamp_tells_any_change(tmp_path):
    write_folder(tmp_path, 0, 2)
    stamps = [folder_stamp(str(tmp_path))]
    assert folder_stamp(str(tmp_path)) == stamps[0]
    (tmp_path / "00000.txt").write_text("another caption")
    stamps.append(folder_stamp(str(tmp_path)))
    (tmp_path / "00000.png").rename(tmp_path / "2.png")
    stamps.append(folder_stamp(str(tmp_path)))
    assert len(set(stamps)) == 3
