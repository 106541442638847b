"""Folders of pictures with their texts: both forms, and what is wrong with them."""

import json

import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.evaluation.captioned import read_captioned, read_picture


def save(path, value=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("base/0.png", "base/1.png", "sr/0.png"):
        save(tmp_path / name)
    return tmp_path


def manifest(folder, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines))


def row(file="base/0.png", **changes):
    return {"file": file, "prompt": "a fox", "stage": "base", **changes}


def test_the_last_stage_or_the_one_that_is_named(folder):
    manifest(
        folder,
        row(),
        row("base/1.png", prompt="an owl"),
        "",
        row("sr/0.png", stage="sr"),
    )
    assert [each.text for each in read_captioned(folder, "base")] == ["a fox", "an owl"]
    assert [each.file.parent.name for each in read_captioned(folder)] == ["sr"]
    with pytest.raises(UserError, match=r"stage 'x'; it has base, sr"):
        read_captioned(folder, "x")


@pytest.mark.parametrize("column", ["caption", "prompt"])
def test_a_table(folder, column):
    text = f'file,{column}\nbase/0.png,"a fox, red"\nbase/1.png,\n'
    (folder / "captions.csv").write_text(text)
    assert [each.text for each in read_captioned(folder)] == ["a fox, red", ""]


def test_unusual_separators_stay_within_a_text(folder):
    text = "a fox\u2028in snow"
    (folder / "captions.csv").write_text(f"file,caption\nbase/0.png,{text}\n")
    assert [each.text for each in read_captioned(folder)] == [text]
    manifest(folder, json.dumps(row(prompt=text), ensure_ascii=False))
    assert [each.text for each in read_captioned(folder)] == [text]


def test_a_long_list_is_read_in_linear_time(folder, monkeypatch):
    compared = []
    plain = type(folder).__eq__

    def equal(a, b):
        compared.append(a)
        return plain(a, b)

    lines = ["file,caption"]
    for number in range(200):
        (folder / f"{number}.png").touch()
        lines.append(f"{number}.png,a fox")
    (folder / "captions.csv").write_text("\n".join(lines))
    monkeypatch.setattr(type(folder), "__eq__", equal)
    assert len(read_captioned(folder)) == 200
    assert len(compared) < 20 * 200


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{"], "line 1 of .* is no object"),
        ([row(), "[1]"], "line 2 of"),
        ([{"file": "base/0.png"}], "prompt"),
        ([row(prompt=3)], "must be texts"),
        ([row("gone.png")], "names gone.png"),
        ([row("../outside.png")], "names ../outside.png"),
        ([row(), row()], "lists 0.png twice"),
    ],
)
def test_bad_manifests(folder, rows, words):
    save(folder.parent / "outside.png")
    manifest(folder, *rows)
    with pytest.raises(UserError, match=words):
        read_captioned(folder)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,text\na,b\n", "has the columns name, text"),
        ("", "has the columns none"),
        ("file,caption\nbase/0.png\n", "not as many cells"),
        ("file,caption\nbase/0.png,a,b\n", "not as many cells"),
        ("caption,file\na\n", "not as many cells"),
        ('file,caption\nbase/0.png,"a"b\n', "line 2 of .* malformed"),
        ("file,caption\n", "lists no picture; sample some first"),
    ],
)
def test_bad_tables(folder, table, words):
    (folder / "captions.csv").write_text(table)
    with pytest.raises(UserError, match=words):
        read_captioned(folder)


def test_no_list_and_no_picture(tmp_path):
    with pytest.raises(UserError, match=r"neither manifest\.jsonl"):
        read_captioned(tmp_path)
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"x\.png cannot be read"):
        read_picture(tmp_path / "x.png")
