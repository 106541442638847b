"""The command: from two folders to the table."""

import os
import subprocess
import sys

import numpy as np
import pytest

from imagen_jax.raters import __main__ as raters
from imagen_jax.raters.controls import MOSAIC_CELLS, mosaic
from imagen_jax.raters.study import read_study
from tests.commands.command import run
from tests.raters.refusals import make, refuse
from tests.raters.studies import (
    Client,
    draw_scene,
    end,
    start_command,
)


@pytest.mark.slow
def test_from_two_folders_to_the_table(tmp_path, monkeypatch, capfd):
    study = make(tmp_path / "study", num_pairs=2, num_controls=2)
    status, said, err = run(
        monkeypatch, capfd, raters, "controls", f"--study={study}", "--num=2"
    )
    assert status == 0, err
    assert "wrote 2 controls" in said
    process, links = start_command(study, "--raters=2", "--url=https://x.org/")
    try:
        assert [link[:16] for link in links] == ["https://x.org/r/"] * 2
        assert (study / "links.csv").stat().st_mode & 0o077 == 0
        status, said, err = run(
            monkeypatch, capfd, raters, "report", f"--study={study}"
        )
        assert status == 0, err  # while the server runs
        assert "2 links, 0 raters began" in said
    finally:
        end(process)
    process, again = start_command(study, "--raters=3", "--host=127.0.0.1")
    try:
        assert [link[-32:] for link in again[:2]] == [link[-32:] for link in links]
        assert again[0].startswith("http://127.0.0.1:")
        client = Client(again[2])
        client.begin()
        for position in range(4):
            assert client.answer(position=position, quality="1") == 303
        assert "Thank you" in client.page()
        client.close()
    finally:
        end(process)
    out = tmp_path / "out"
    status, said, err = run(
        monkeypatch, capfd, raters, "report", f"--study={study}", f"--out={out}"
    )
    assert status == 0, err
    assert "| original | Imagen | " in said
    assert "3 links, 1 raters began, 1 finished, 0 count" in said
    assert "Left out: rater 3, 1 of 2 controls right (50 %, below 80 %)." in said
    assert sorted(path.name for path in out.iterdir()) == [
        "answers_quality.csv",
        "plot.png",
        "raters_quality.csv",
        "table.csv",
    ]


def test_controls_use_pairs_that_are_not_rated_first(tmp_path, monkeypatch, capfd):
    for kind in ("quality", "alignment"):
        study = make(tmp_path / kind, kind, num_pairs=2, num_controls=2)
        flags = ("controls", f"--study={study}", "--num=2")
        assert run(monkeypatch, capfd, raters, *flags)[0] == 0
        read = read_study(study)
        rated = {
            p.sha256 for item in read.items for side in item.pictures for p in side
        }
        assert len(read.controls) == 2
        for control in read.controls:
            assert control.pictures[0].sha256 not in rated
    answers = {control.accepted for control in read.controls}
    assert answers == {("yes", "somewhat"), ("no",)}
    prompts = {item.prompt for item in read.items}
    own = {f"reference/{c.pictures[0].file.split('/')[-1]}": c for c in read.controls}
    for file, control in own.items():
        number = int(file.split("scene")[1].split(".")[0])
        is_own = f"view {number}" in control.prompt
        assert is_own == ("yes" in control.accepted)
        assert control.prompt not in prompts or not is_own
    status, _, err = run(monkeypatch, capfd, raters, *flags)
    assert status == 2
    assert "controls.csv is there already" in err[-1]


def test_a_mosaic_has_one_colour_in_each_cell():
    picture = np.asarray(draw_scene(0, 200, 0, 48))
    cells = mosaic(picture)
    assert cells.shape == picture.shape
    side = 48 // MOSAIC_CELLS
    for row in range(0, 48, side):
        for column in range(0, 48, side):
            cell = cells[row : row + side, column : column + side].reshape(-1, 3)
            assert (cell == cell[0]).all()
    assert len(np.unique(cells.reshape(-1, 3), axis=0)) > 30
    assert mosaic(picture[:7, :5]).shape == (7, 5, 3)


@pytest.mark.slow
def test_a_second_server_and_a_port_in_use_are_told(tmp_path, monkeypatch, capfd):
    study, other = make(tmp_path / "one"), make(tmp_path / "other")
    process, links = start_command(study)
    port = links[0].split(":")[2].split("/")[0]
    try:
        for folder, message in [
            (study, f"another server is serving {study} (process {process.pid})"),
            (other, f"cannot listen on 127.0.0.1 port {port}"),
        ]:
            flags = ("serve", f"--study={folder}", f"--port={port}")
            assert message in refuse(monkeypatch, capfd, *flags)
    finally:
        process.terminate()
        said = process.communicate()[1]
    assert "Traceback" not in said


def test_a_missing_package_names_the_extra(tmp_path):
    study = make(tmp_path / "study")
    (tmp_path / "fastapi.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')"
    )
    result = subprocess.run(
        [sys.executable, "-m", "imagen_jax.raters", "serve", f"--study={study}"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.strip().endswith('pip install "imagen_jax[raters]"')
    assert "Traceback" not in result.stderr
