import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagen_jax.errors import UserError
from imagen_jax.sampling.png_text import (
    LONG,
    SHEET_KEY,
    check_out,
    read_png,
    read_sheet,
    save_png,
    sheet_texts,
    whole_file,
    write_png,
)
from imagen_jax.sampling.recipe import Recipe

PICTURE = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
RECIPE = Recipe(
    prompt='a "red" fox,\nÆØ 狐 \U0001f98a',
    negative="blurry\0dark",
    second="",
    blend=0.1,
    seed=2**32 - 1,
    stage="base",
    samplers={"base": {"kind": "ddim", "num_steps": 3, "percentile": 99.5}},
    edit={"strength": 0.5},
    model={"base": {"config_sha256": "12"}},
    batch_size=8,
    row=7,
    devices="8x1x1 cpu",
    versions={"imagen_jax": "0.1.0", "jax": "0.10.2"},
)


def test_picture_and_recipe_come_back(tmp_path):
    path = tmp_path / "new" / "a.png"
    write_png(path, PICTURE, RECIPE)
    picture, recipe = read_png(path)
    np.testing.assert_array_equal(picture, PICTURE)
    assert recipe == RECIPE
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_other_programs_can_read_prompt_and_seed(tmp_path):
    write_png(tmp_path / "a.png", PICTURE, RECIPE)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["prompt"] == RECIPE.prompt
        assert image.text["seed"] == "4294967295"
        assert image.text["Software"] == "imagen_jax 0.1.0"


def test_without_a_recipe_there_is_no_text(tmp_path):
    write_png(tmp_path / "a.png", PICTURE)
    with pytest.raises(UserError, match="does not say how it was drawn"):
        read_png(tmp_path / "a.png")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")

    def break_off():
        with whole_file(path) as partial:
            partial.write_text("half")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        break_off()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": -1},
        {"seed": True},
        {"row": 8},
        {"blend": "much"},
        {"samplers": {"base": 3}},
        {"versions": {"jax": 1}},
        {"unknown": 1},
    ],
)
def test_a_malformed_recipe_is_refused(tmp_path, change):
    text = PngInfo()
    text.add_text("imagen_jax", json.dumps({**RECIPE._asdict(), **change}))
    Image.fromarray(PICTURE).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(UserError, match="not a recipe"):
        read_png(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000])
def test_text_that_is_no_object_is_refused(tmp_path, text):
    info = PngInfo()
    info.add_text("imagen_jax", text)
    Image.fromarray(PICTURE).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(UserError, match="not a recipe"):
        read_png(tmp_path / "a.png")


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut", "jpeg"])
def test_what_is_no_png_is_refused(tmp_path, damage):
    path = tmp_path / "a.png"
    write_png(path, PICTURE, RECIPE)
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "garbage":
            path.write_bytes(b"x" * 100)
        case "cut":
            path.write_bytes(content[:-40])
        case "jpeg":
            Image.fromarray(PICTURE).save(path, "JPEG")
    with pytest.raises(UserError, match="no PNG that can be read"):
        read_png(path)


def test_a_sheets_recipes_come_back_and_are_compressed(tmp_path):
    path = tmp_path / "sheet.png"
    recipes = [RECIPE._replace(seed=seed) for seed in range(40)]
    texts = sheet_texts(recipes)
    assert len(texts[SHEET_KEY]) > LONG
    save_png(path, Image.fromarray(PICTURE), texts)
    assert path.stat().st_size < LONG
    sheet = read_sheet(path)
    assert sheet is not None
    np.testing.assert_array_equal(sheet[0], PICTURE)
    assert sheet[1:] == (recipes, None)
    write_png(path, PICTURE, RECIPE)
    assert read_sheet(path) is None


@pytest.mark.parametrize("text", ["{", "{}", "[]", "3", "[3]", '{"a": 1}'])
def test_a_malformed_sheet_is_refused(tmp_path, text):
    path = tmp_path / "sheet.png"
    save_png(path, Image.fromarray(PICTURE), {SHEET_KEY: text})
    with pytest.raises(UserError, match="not a recipe"):
        read_sheet(path)


def test_a_place_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    check_out(tmp_path / "new" / "a.png")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="may not be written to; give another place"):
        check_out(tmp_path / "new" / "a.png")
