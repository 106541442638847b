import csv
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_jax import prepare
from imagen_jax.data.sources.opening import open_source
from tests.commands.command import run
from tests.data.sources.archives import numbered, png, write_folder, write_tar


def test_the_command_makes_an_index_once(tmp_path, monkeypatch, capfd):
    members = [*numbered(0, 3), ("x.png", png(1)), ("y.png", png(1)), ("y.txt", b"ab")]
    inputs = [
        write_tar(tmp_path / "a.tar", members),
        write_folder(tmp_path / "folder", 3, 5),
    ]
    out = tmp_path / "index"
    arguments = ("index", f"--out={out}", "--min_caption=3", "--workers=1", *inputs)
    status, text, _ = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 0
    counts, dropped, last = text.splitlines()
    assert counts.startswith("records: 5 kept with 5 distinct captions, 2 dropped; ")
    assert dropped == (
        f"dropped: caption too short: 1, no caption: 1; see {out}/dropped.csv"
    )
    assert last == f"the index is ready: index:{out}"
    source = open_source(last.split()[-1])
    assert [source[i].image for i in range(5)] == [png(i) for i in range(5)]
    with open(out / "dropped.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["x", "y"]
    status, text, _ = run(monkeypatch, capfd, prepare, *arguments)
    assert (status, text) == (0, f"the index is there already, nothing done: {out}\n")


def test_what_is_copied_is_said(tmp_path, monkeypatch, capfd):
    table = pa.table({"photo": [png(1)], "title": ["a fox"]})
    pq.write_table(table, tmp_path / "a.parquet")
    status, text, _ = run(
        monkeypatch,
        capfd,
        prepare,
        "index",
        f"--out={tmp_path}/index",
        "--image_column=photo",
        "--caption_column=title",
        "--decode",
        tmp_path / "a.parquet",
    )
    assert status == 0
    assert "copied: 0.0 MB of pictures from compressed Parquet" in text


def test_two_processes_of_the_command(tmp_path):
    inputs = [
        write_tar(tmp_path / f"{i}.tar", numbered(2 * i, 2 * i + 2)) for i in range(3)
    ]
    command = [sys.executable, "-m", "imagen_jax.prepare", "index", "--workers=2"]
    result = subprocess.run(
        [*command, f"--out={tmp_path}/index", *inputs],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    source = open_source(f"index:{tmp_path}/index")
    assert [source[i].caption for i in range(6)] == [f"picture {i}" for i in range(6)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tar"], "none.tar names no file; give .tar and .parquet files"),
        (["cut.tar.gz"], "cut.tar.gz is no .tar or .parquet; give these (tars not"),
        (["bad.tar"], "no record is kept (archive is damaged: 1); check the files"),
        (["bare.tar"], "no record is kept (no caption: 1); check the files and"),
        (["a.tar", "--min_size=9"], "no record is kept (picture too small: 2)"),
        (["a.tar", "--min_size=-1"], "--min_size is -1; give pixels, 0 takes any"),
        (["a.tar", "--max_aspect=0.5"], "--max_aspect is 0.5; give longer side over"),
        (["a.tar", "--max_aspect=nan"], "--max_aspect is nan; give longer side over"),
        (["a.tar", "--min_caption=0"], "--min_caption is 0; give at least 1 charact"),
        (
            ["a.tar", "--min_caption=9", "--max_caption=8"],
            "--max_caption is 8, below --min_caption 9; give more characters",
        ),
        (["a.tar", "--workers=0"], "--workers is 0; it must be at least 1"),
        (["a.tar", "--min_size=big"], "argument --min_size: invalid int value: 'big'"),
        (["table"], "names 1.png again; give each picture one line"),
        (["a.parquet"], "has no image column 'image' or"),
        (["nope://a/b.tar"], 'pip install "imagen_jax[cloud]"'),
        ([], "the following arguments are required: files"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "a.tar", numbered(0, 2))
    write_tar(tmp_path / "bare.tar", [("x.png", png(1))])
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    (tmp_path / "cut.tar.gz").write_bytes(b"")
    write_folder(tmp_path / "table", 0, 1)
    (tmp_path / "table" / "metadata.csv").write_text(
        "file_name,text\n1.png,a\n1.png,b\n"
    )
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "a.parquet")
    status, _, errors = run(
        monkeypatch, capfd, prepare, "index", "--workers=1", "--out=index", *arguments
    )
    assert status == 2
    assert message in errors[-1]
    assert "Traceback" not in "\n".join(errors)
    assert not (tmp_path / "index" / "index.json").exists()


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch, capfd):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    status, _, errors = run(
        monkeypatch, capfd, prepare, "index", "--out=i", tmp_path / "a.parquet"
    )
    assert status == 2
    assert errors[-1].endswith('pip install "imagen_jax[parquet]"')
