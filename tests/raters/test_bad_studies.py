"""Each bad input of the command is one sentence, and nothing is served or lost."""

import contextlib
import os
import shutil

import pytest
from PIL import Image

from imagen_jax.raters import serving
from imagen_jax.raters.recorded import read_recorded
from imagen_jax.raters.store import Store
from imagen_jax.raters.study import read_study
from tests.raters.refusals import make, refuse
from tests.raters.studies import draw_scene


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def cut(path):
    path.write_bytes(path.read_bytes()[:200])


def shrink(path):
    with Image.open(path) as image:
        image.resize((24, 24)).save(path)


BAD = {
    "no study": (lambda s: shutil.rmtree(s), "a study's folder must be writable"),
    "no study.toml": (lambda s: (s / "study.toml").unlink(), "cannot read"),
    "no TOML": (lambda s: (s / "study.toml").write_text("x"), "is not a TOML file"),
    "kind": (
        lambda s: rewrite(s / "study.toml", '"quality"', '"beauty"'),
        "must be one of quality, alignment, drawbench",
    ),
    "unknown key": (
        lambda s: rewrite(s / "study.toml", "num_controls", "controls"),
        "unknown key controls; a study of kind quality knows kind, model",
    ),
    "no number": (
        lambda s: rewrite(s / "study.toml", "num_controls = 0", "num_controls = true"),
        "num_controls is True; it must be a whole number of at least 0",
    ),
    "no text": (
        lambda s: rewrite(s / "study.toml", "num_controls = 0", "title = 3"),
        "title is 3; it must be a text",
    ),
    "no system": (
        lambda s: rewrite(s / "study.toml", "folder =", "dir ="),
        "[model] must have the two texts name and folder",
    ),
    "same names": (
        lambda s: rewrite(s / "study.toml", "Imagen", "original"),
        "the report needs two names",
    ),
    "no controls": (
        lambda s: rewrite(s / "study.toml", "num_controls = 0", "num_controls = 1"),
        "raters controls --study=",
    ),
    "no prompts": (lambda s: (s / "prompts.csv").unlink(), "cannot read"),
    "no rows": (
        lambda s: (s / "prompts.csv").write_text("name,prompt\n"),
        "has no rows",
    ),
    "columns": (
        lambda s: rewrite(s / "prompts.csv", "prompt", "caption"),
        "has the columns name, caption; it must have prompt",
    ),
    "cells": (
        lambda s: (s / "prompts.csv").write_text("prompt\na sun, low\n"),
        "row 1 does not have 1 cells; put a cell with a comma in double quotes",
    ),
    "latin-1": (
        lambda s: (s / "prompts.csv").write_bytes(b"prompt\ncaf\xe9\n"),
        "is not a CSV file in UTF-8",
    ),
    "name twice": (
        lambda s: rewrite(s / "prompts.csv", "scene1", "scene0"),
        "row 2: the name 'scene0' was there before",
    ),
    "name with path": (
        lambda s: rewrite(s / "prompts.csv", "scene0", "../x"),
        "is no plain file name",
    ),
    "empty prompt": (
        lambda s: (s / "prompts.csv").write_text("name,prompt\nscene0,\n"),
        "row 1: the prompt is empty",
    ),
    "no folder": (
        lambda s: shutil.rmtree(s / "model"),
        "cannot read the folder",
    ),
    "counts": (
        lambda s: (s / "model" / "scene1.png").unlink(),
        "there is none for scene1: both folders must hold exactly the names",
    ),
    "names": (
        lambda s: (s / "reference" / "scene1.png").rename(s / "reference" / "x.png"),
        "reference has pictures for 4 names and prompts.csv has 4 rows",
    ),
    "more pictures": (
        lambda s: shutil.copy(s / "model" / "scene1.png", s / "model" / "x.png"),
        "there is x, which is not in the CSV",
    ),
    "two of one name": (
        lambda s: shutil.copy(s / "model" / "scene1.png", s / "model" / "scene1.jpg"),
        "two pictures called scene1",
    ),
    "damaged picture": (
        lambda s: cut(s / "model" / "scene2.png"),
        "scene2.png cannot be read (corrupt picture",
    ),
    "other size": (
        lambda s: shrink(s / "model" / "scene2.png"),
        "scene2.png has 24 x 24 pixels and ",
    ),
    "link that leads out": (
        lambda s: (
            (s / "model" / "scene2.png").unlink(),
            (s / "model" / "scene2.png").symlink_to("/etc/passwd"),
        ),
        "is a link to a file outside",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_is_one_sentence(case, tmp_path, monkeypatch, capfd):
    study = make(tmp_path / "study")
    spoil, message = BAD[case]
    spoil(study)
    said = refuse(monkeypatch, capfd, "serve", f"--study={study}", "--port=0")
    assert message in said
    assert not (study / "links.csv").exists()


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        (
            "drawbench",
            lambda s: (s / "a" / "p0" / "7.png").unlink(),
            "holds 7 pictures; a DrawBench set has 8",
        ),
        ("drawbench", lambda s: shutil.rmtree(s / "b" / "p1"), "none for p1"),
        (
            "drawbench",
            lambda s: rewrite(s / "study.toml", "[a]", "num_controls = 2\n[a]"),
            "a DrawBench study has no control trials",
        ),
        (
            "alignment",
            lambda s: (s / "controls.csv").write_text(
                "picture,prompt,accepted\nmodel/scene0.png,x,maybe\n"
            ),
            "accepted is 'maybe'; it must be one or two of yes, somewhat, no",
        ),
        (
            "alignment",
            lambda s: (s / "controls.csv").write_text("right,wrong\na,b\n"),
            "it must have picture and prompt and accepted",
        ),
        (
            "alignment",
            lambda s: (s / "controls.csv").write_text(
                "picture,prompt,accepted\nnowhere.png,x,no\n"
            ),
            "nowhere.png cannot be read",
        ),
    ],
)
def test_a_bad_set_or_control_is_one_sentence(
    kind, spoil, message, tmp_path, monkeypatch, capfd
):
    num_controls = {"num_controls": 1} if kind == "alignment" else {}
    study = make(tmp_path / "study", kind, **num_controls)
    spoil(study)
    said = refuse(monkeypatch, capfd, "serve", f"--study={study}", "--port=0")
    assert message in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("serve", "--study={s}", "--raters=0"), "a study needs 1 rater at least"),
        (("serve", "--study={s}", "--port=99999"), "it must be from 0 to 65535"),
        (
            ("serve", "--study={s}", "--host=192.0.2.1"),
            "choose another --port or --host",
        ),
        (("serve", "--study={s}", "--host=0.0.0.0"), "say how they reach this machine"),
        (("report", "--study={s}"), "serve the study first"),
        (("report", "--study={s}/nowhere"), "serve the study first"),
        (("controls", "--study={s}", "--num=9"), "there are 4 pairs"),
        (("controls", "--study={s}", "--num=0"), "2 at least"),
    ],
)
def test_a_bad_flag_is_one_sentence(flags, message, tmp_path, monkeypatch, capfd):
    study = make(tmp_path / "study")
    flags = [flag.format(s=study) for flag in flags]
    assert message in refuse(monkeypatch, capfd, *flags)


CHANGES = {
    "setting": (
        lambda s: rewrite(s / "study.toml", "num_controls", "batch = 3\nnum_controls"),
        "batch was 50 and is 3",
    ),
    "prompt": (
        lambda s: rewrite(s / "prompts.csv", "white", "blue"),
        "the prompt of scene0 was 'a white",
    ),
    "picture": (
        lambda s: draw_scene(0, 9, 9).save(s / "model" / "scene2.png"),
        "the picture model/scene2.png has changed",
    ),
    "row": (
        lambda s: (
            rewrite(s / "prompts.csv", "scene3", "scene9"),
            (s / "model" / "scene3.png").rename(s / "model" / "scene9.png"),
            (s / "reference" / "scene3.png").rename(s / "reference" / "scene9.png"),
        ),
        "scene3 is missing from the items",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_study_that_changed_since_it_began_is_not_served(
    case, tmp_path, monkeypatch, capfd
):
    study = make(tmp_path / "study")
    with contextlib.closing(Store(study)) as store:
        for _ in range(2):  # as long as nothing changed, all is well
            serving.prepare(read_study(study), store, 2)
    was = read_recorded(study)
    spoil, message = CHANGES[case]
    spoil(study)
    flags = ("serve", f"--study={study}", "--port=0")
    said = refuse(monkeypatch, capfd, *flags)
    assert message in said
    assert "The answers so far are kept" in said
    assert read_recorded(study) == was


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch, capfd):
    study = make(tmp_path / "study")
    os.mkdir(study / "serving.lock")  # permissions would not stop root
    said = refuse(monkeypatch, capfd, "serve", f"--study={study}", "--port=0")
    assert "a study's folder must be writable, and its disk not full" in said
