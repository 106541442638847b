"""`./launch/train_folder.sh`: a folder of pictures becomes a run with a report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagen_jax.data.synthetic import SyntheticSource
from tests.data.sources.archives import png

SCRIPT = Path(__file__).parent.parent / "launch" / "train_folder.sh"
NUM = 64

# A Python that does not install: the tests' environment has all that is needed.
PYTHON = """#!/bin/sh
case "$1 $2 $3" in "-m pip install") exit 0 ;; esac
exec {python} "$@"
"""


@pytest.fixture(scope="module")
def train_folder(tmp_path_factory):
    """Runs the script; what it wrote to stdout and stderr is text."""
    environment = tmp_path_factory.mktemp("environment")
    python = environment / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)

    def run(*arguments, cwd=None):
        return subprocess.run(
            [SCRIPT, *map(str, arguments)],
            env={**os.environ, "VIRTUAL_ENV": str(environment)},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


def write_pictures(folder, num, size=256):
    """Writes `num` pictures of shapes with a .txt beside each."""
    folder.mkdir()
    source = SyntheticSource(num, size)
    for i in range(num):
        (folder / f"{i:03}.png").write_bytes(source[i].image)
        (folder / f"{i:03}.txt").write_text(source[i].caption)


@pytest.mark.slow
def test_from_a_folder_to_a_report(tmp_path, train_folder):
    """64 pictures and 3 faults, 50 steps a stage; a second call does nothing again."""
    pictures, run = tmp_path / "pictures", tmp_path / "run"
    write_pictures(pictures, NUM)
    (pictures / "bare.png").write_bytes(png(1, 256, 256))
    (pictures / "small.png").write_bytes(png(1))
    (pictures / "small.txt").write_text("a small picture")
    (pictures / "cut.png").write_bytes((pictures / "000.png").read_bytes()[:-60])
    (pictures / "cut.txt").write_text("a picture cut short")
    done = train_folder("pictures", "--smoke", f"--run={run}", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((run / "report.json").read_text())
    counts = report["pictures"]
    assert counts["kept"] == NUM == counts["train"] + counts["held_out"]
    assert counts["held_out"] >= 1
    assert counts["dropped"] == {
        "corrupt picture": 1,
        "no caption": 1,
        "picture too small": 1,
    }
    for stage in report["stages"].values():
        assert (stage["steps"], stage["skipped"]) == (50, 0)
        assert stage["loss_last"] < stage["loss_first"]
    assert report["super_resolution"]["n"] == counts["held_out"]
    assert np.isfinite(report["super_resolution"]["gain_db"])
    assert 0 < report["minutes"] < 10
    assert all((run / name).exists() for name in report["files"].values())
    with Image.open(run / "grid.png") as grid:
        assert grid.width > 100
    text = (run / "report.md").read_text()
    assert "| corrupt picture | 1 |" in text
    assert f"{NUM} kept" in text
    assert text in done.stdout
    prompts = (run / "held_out.txt").read_text().splitlines()
    held_out = {(pictures / f"{i:03}.txt").read_text() for i in range(NUM)}
    assert set(prompts) <= held_out

    before = {path: path.stat().st_mtime_ns for path in (run / "base").iterdir()}
    again = train_folder(pictures, f"--run={run}", "--prompt=a red circle")
    assert again.returncode == 0, again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (run / "base").iterdir()}
    assert (run / "prompts.txt").read_text() == "a red circle\n"
    assert f"Your prompts: {run}/prompts.png" in again.stdout


def assert_one_sentence(done, message):
    """Exit status 2, no traceback, and the last line of stderr says it all."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no folder of pictures is given; run ./launch/train_folder.sh DIR"),
        (["{tmp}/none"], "/none is no folder; give one with pictures"),
        (["{tmp}/file"], "/file is no folder; give one with pictures"),
        (["{tmp}", "{tmp}"], "is a second folder; give one that holds all"),
        (["{tmp}", "--stepps=3"], "unknown flag --stepps=3; known: --run=DIR"),
        (["{tmp}", "--steps=0"], "--steps=0 is no number of steps; give one for both"),
        (["{tmp}", "--steps=9,x"], "--steps=9,x is no number of steps"),
        (["{tmp}", "--run=a,b"], "a,b has a comma; give a folder without one"),
        (["{tmp}", "--run={tmp}/run"], "lies in the folder of pictures; give another"),
        (["{tmp}", "--run={file}/run"], "/run cannot be written; give another folder"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path, train_folder, arguments, message):
    """All of them before anything is installed or made."""
    folder, file = tmp_path / "pictures", tmp_path / "a_file"
    folder.mkdir()
    for path in (folder / "file", file):
        path.write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [argument.format(tmp=folder, file=file) for argument in arguments]
    done = train_folder(*given, cwd=tmp_path)
    assert_one_sentence(done, message)
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def bare(folder):
    for path in folder.glob("*.txt"):
        path.unlink()


def unreadable(folder):
    for path in folder.glob("*.png"):
        path.unlink()
        path.symlink_to("gone.png")


def damage(folder):
    for path in folder.glob("*.png"):
        path.write_bytes(path.read_bytes()[:99])


def keep_one(folder):
    bare(folder)
    (folder / "000.txt").write_text("the only caption")


def add_bad_table(folder):
    (folder / "metadata.csv").write_text('file_name,text\n000.png,"a\n')


BAD_FOLDERS = {
    "empty": (
        lambda folder: [p.unlink() for p in folder.iterdir()],
        "is no folder with",
    ),
    "no captions": (bare, "no record is kept (no caption: 3); check the files"),
    "one picture": (keep_one, "has one usable picture; give at least 2"),
    "unreadable": (unreadable, "no record is kept (file cannot be read: 3)"),
    "damaged": (damage, "no record is kept (corrupt picture: 3)"),
    "table": (add_bad_table, "metadata.csv, line 2 is malformed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_are_one_sentence(tmp_path, train_folder, name):
    spoil, message = BAD_FOLDERS[name]
    write_pictures(tmp_path / "pictures", 3)
    spoil(tmp_path / "pictures")
    done = train_folder(tmp_path / "pictures", f"--run={tmp_path}/run")
    assert_one_sentence(done, message)
    assert not (tmp_path / "run" / "base").exists()
