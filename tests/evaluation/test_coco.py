"""COCO's folder: which captions are drawn, which pictures are there; bad ones."""

import hashlib
import json
import shutil

import pytest

from imagen_jax.errors import UserError
from imagen_jax.evaluation.coco import (
    Caption,
    describe_draw,
    draw_captions,
    open_coco,
)
from tests.evaluation.coco_folder import write_coco


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("coco"), 12)


def test_pictures_and_captions_come_by_number_and_are_cleaned(folder):
    coco = open_coco(folder)
    assert coco.year == 2014
    assert [path.stem[-3:] for path in coco.pictures[:2]] == ["042", "049"]
    assert all(path.is_file() for path in coco.pictures)
    numbers = [caption.id for caption in coco.captions]
    assert numbers == list(range(1000 - 23, 1001))
    assert coco.captions[-2:] == (
        Caption(999, "a cat on the owl 0 ."),
        Caption(1000, "the red fox 0"),
    )


def test_the_draw_is_the_documented_rule_whatever_the_order():
    captions = [Caption(number, f"text {number}") for number in range(200)]
    drawn = draw_captions(captions, 50, seed=3)
    by_rule = sorted(range(200), key=lambda n: hashlib.sha256(b"3\n%d" % n).hexdigest())
    assert [caption.id for caption in drawn] == by_rule[:50]
    assert drawn == draw_captions(captions[::-1], 50, seed=3)
    assert drawn[:20] == draw_captions(captions, 20, seed=3)
    assert set(drawn) != set(draw_captions(captions, 50, seed=4))
    record = describe_draw(drawn, 2014, 3)
    assert (record["seed"], record["count"]) == (3, 50)
    assert record["ids_sha256"] != describe_draw(drawn[::-1], 2014, 3)["ids_sha256"]


def test_2014_comes_before_2017_and_either_can_be_asked_for(tmp_path):
    write_coco(tmp_path, 2, 2017)
    assert open_coco(tmp_path).year == 2017
    write_coco(tmp_path, 3, 2014)
    assert len(open_coco(tmp_path).pictures) == 3
    assert len(open_coco(tmp_path, 2017).pictures) == 2


def test_a_caption_without_a_word_is_left_out(tmp_path):
    write_coco(tmp_path, 2)
    change(tmp_path, lambda content: content["annotations"][1].update(caption=" \n"))
    assert len(open_coco(tmp_path).captions) == 3


def change(folder, edit):
    path = folder / "annotations" / "captions_val2014.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def no_annotations(folder):
    shutil.rmtree(folder / "annotations")


def no_json(folder):
    (folder / "annotations" / "captions_val2014.json").write_text("[1")


def no_captions(folder):
    change(folder, lambda content: content.update(annotations=[]))


def instances_file(folder):
    change(folder, lambda content: content["annotations"][0].pop("caption"))


def missing_picture(folder):
    (folder / "val2014" / "COCO_val2014_000000000049.jpg").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_annotations, "has no annotations; give COCO's own layout"),
        (no_json, "is no file of COCO captions"),
        (no_captions, "lists 2 pictures and 0 captions"),
        (instances_file, "is no file of COCO captions .KeyError: 'caption'"),
        (
            missing_picture,
            "1 of 2 pictures .* first is .*049.jpg.*; unpack val2014.zip",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path, damage, message):
    write_coco(tmp_path, 2)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        open_coco(tmp_path)


@pytest.mark.parametrize("num", [0, 25])
def test_as_many_captions_as_there_are_can_be_drawn(folder, num):
    with pytest.raises(UserError, match=f"--num={num} captions .* from 24; give 1 to"):
        draw_captions(open_coco(folder).captions, num, 0)


def test_a_year_that_is_not_there_is_refused(folder):
    with pytest.raises(UserError, match="no annotations of 2017"):
        open_coco(folder, 2017)
