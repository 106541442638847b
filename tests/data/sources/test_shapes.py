import itertools
import json
import tarfile
from collections import Counter

import numpy as np
import pytest

from imagen_jax import prepare
from imagen_jax.data.captions import read_captions
from imagen_jax.data.images import box_downsample, decode
from imagen_jax.data.sources.opening import open_source
from imagen_jax.data.sources.shapes import (
    COLOURS,
    HELD_OUT,
    KINDS,
    PALETTE,
    SHAPES,
    SPLITS,
    Scene,
    caption,
    draw_scene,
    held_out,
    kinds_of,
    parse,
    swap,
)
from imagen_jax.data.sources.shapes_drawing import Placed, draw, place, render
from imagen_jax.data.sources.shapes_files import prompt_scenes, train_picture
from imagen_jax.prompts import read_prompts
from tests.commands.command import run


def scenes(split, num=40):
    return [draw_scene(0, i, split) for i in range(num)]


def test_a_sentence_has_one_scene():
    drawn = [scene for split in SPLITS for scene in scenes(split, 30)]
    assert {scene.kind for scene in drawn} == set(KINDS)
    for scene in drawn:
        assert parse(caption(scene)) == scene


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        (
            "a small blue square on a purple background",
            Scene("single", "purple", (("blue", "square"),), "small"),
        ),
        (
            "an orange star in the top right on a white background",
            Scene("position", "white", (("orange", "star"),), "top right"),
        ),
        (
            "a green circle above an orange star on a blue background",
            Scene(
                "relation", "blue", (("green", "circle"), ("orange", "star")), "above"
            ),
        ),
        (
            "three red stars on an orange background",
            Scene("count", "orange", (("red", "star"),) * 3),
        ),
        ("a red star on a red background", None),
        ("an red star on a blue background", None),
        ("one red stars on a blue background", None),
        ("two red stars above a blue star on a white background", None),
        ("a red star above a red star on a white background", None),
        ("a pink star on a blue background", None),
        ("a red star", None),
        ("", None),
    ],
)
def test_what_a_sentence_says(text, scene):
    assert parse(text) == scene
    assert scene is None or caption(scene) == text


def test_every_combination_is_trained_on_or_in_one_split():
    trained = {thing for scene in scenes("train", 1500) for thing in scene.things}
    pairs = set(itertools.product(COLOURS, SHAPES))
    kept_out = {
        thing for scene in scenes("colour_shape", 150) for thing in scene.things
    }
    rule = {pair for pair in pairs if held_out(Scene("single", "", (pair,)))}
    assert len(rule) == 8
    assert trained == pairs - rule
    assert rule < kept_out
    assert Counter(shape for _, shape in rule) == dict.fromkeys(SHAPES, 2)
    assert Counter(colour for colour, _ in rule) == dict.fromkeys(COLOURS, 1)


def test_splits_are_disjoint():
    of_split = {split: {*scenes(split, 40)} for split in SPLITS}
    for split in HELD_OUT:
        assert {held_out(scene) for scene in of_split[split]} == {frozenset({split})}
        assert {scene.kind for scene in of_split[split]} == {*kinds_of(split)}
    for split in ("train", "seen"):
        assert {held_out(scene) for scene in of_split[split]} == {frozenset()}
        assert not any(of_split[split] & of_split[name] for name in HELD_OUT)
    trained = of_split["train"] | {
        draw_scene(0, i, "train", "count") for i in range(200)
    }
    fours = {s.things[0][0] for s in trained if len(s.things) == 4}
    assert fours == {*COLOURS} - {"purple", "orange"}


def test_mirrored_sentences_are_held_out_together():
    mirror = {"above": "below", "below": "above"}
    mirror |= {"left of": "right of", "right of": "left of"}
    found = set()
    for split in ("train", "relation_pair"):
        for scene in [draw_scene(0, i, split, "relation") for i in range(40)]:
            other = scene._replace(
                things=scene.things[::-1], detail=mirror[scene.detail]
            )
            assert held_out(other) == held_out(scene)
            found |= {(scene.detail, *held_out(scene))}
    assert len(found) == 8  # each relation with and without the rule


def test_swapped_scenes_are_held_out_together():
    for scene in scenes("binding", 20):
        assert held_out(swap(scene)) == {"binding"}
        assert swap(scene) != scene
        assert swap(swap(scene)) == scene


def test_training_shows_more_stars_than_tests_do():
    """A star is drawn in 1 of 4 single things, and in training in 2 of 5."""

    def share(split):
        drawn = [draw_scene(0, i, split, "single") for i in range(1000)]
        return np.mean([scene.things[0][1] == "star" for scene in drawn])

    assert share("train") == pytest.approx(0.4, abs=0.05)
    assert share("seen") == pytest.approx(0.25, abs=0.05)


def test_draws_are_a_function_of_seed_and_index():
    assert scenes("train") == scenes("train")
    assert draw_scene(0, 7, "train") != draw_scene(1, 7, "train")
    first, again = train_picture(3, 5, 64), train_picture(3, 5, 64)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    with pytest.raises(ValueError, match="no scene of kind 'single'"):
        draw_scene(0, 0, "binding", "single")


def test_things_are_inside_the_frame_and_apart():
    for split in ("train", "binding"):
        for i, scene in enumerate(scenes(split)):
            things = place(scene, np.random.default_rng(i))
            for thing in things:
                reach = thing.radius + max(abs(thing.x - 0.5), abs(thing.y - 0.5))
                assert reach < 0.5
                assert thing.radius >= 0.17
            for a, b in itertools.combinations(things, 2):
                gap = max(abs(a.x - b.x), abs(a.y - b.y)) - a.radius - b.radius
                assert gap > 2.5 / 64


def test_edges_are_antialiased_and_sizes_agree():
    thing = Placed("black", "circle", 0.5, 0.5, 0.3)
    small, large = (render("white", [thing], size) for size in (64, 256))
    for picture in (small, large):
        area = (250 - picture[..., 0].astype(float)).mean() / (250 - 15)
        assert area == pytest.approx(np.pi * 0.3**2, rel=0.03)
    assert len(np.unique(small)) > 8
    difference = small.astype(int) - box_downsample(large, 4)
    assert np.abs(difference).mean() < 1
    np.testing.assert_array_equal(small[0, 0], PALETTE["white"])


def test_the_seed_decides_what_a_sentence_leaves_open():
    scene = Scene("single", "white", (("red", "star"),))
    pictures = [draw(scene, (i,)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_the_command_writes_pictures_and_prompts(tmp_path, monkeypatch, capfd):
    arguments = ("shapes", f"--data_dir={tmp_path}", "--num=12", "--num_prompts=2")
    status, out, _ = run(monkeypatch, capfd, prepare, *arguments)
    folder = tmp_path / "shapes" / "12_2_64px"
    assert (status, out) == (0, f"the set is ready: index:{folder}/index\n")
    source = open_source(f"index:{folder}/index")
    with tarfile.open(folder / "train.tar") as archive:
        records = [
            json.loads(archive.extractfile(name).read())
            for name in archive.getnames()
            if name.endswith(".json")
        ]
    assert len(source) == len(records) == 12
    for i, record in enumerate(records):
        picture, expected = train_picture(0, i, 64)
        assert record == json.loads(json.dumps(expected))
        things = [Placed(**thing) for thing in record["scene"]["things"]]
        redrawn = render(record["scene"]["ground"], things, 64)
        np.testing.assert_array_equal(redrawn, picture)
    truth = {r["caption"] for r in records}
    assert {source[i].caption for i in range(12)} == truth
    np.testing.assert_array_equal(decode(source[0].image), train_picture(0, 0, 64)[0])
    prompts = [prompt.text for prompt in read_prompts(folder / "prompts.jsonl")]
    assert prompts == [caption(scene) for scene in prompt_scenes(2, 0)] + ["", ""]
    known = {*read_captions(folder / "captions.txt")}
    assert known == truth | {*filter(None, prompts)}
    status, out, _ = run(monkeypatch, capfd, prepare, *arguments)
    assert (status, out.split(":")[0]) == (0, "the set is there already, nothing done")


@pytest.mark.parametrize(
    "flag", ["--num=0", "--num_prompts=3", "--num_prompts=0", "--size=16", "--seed=-1"]
)
def test_bad_numbers_are_one_sentence(tmp_path, monkeypatch, capfd, flag):
    arguments = ("shapes", f"--data_dir={tmp_path}/data", flag)
    status, _, errors = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 2
    assert "they must be at least 1, an even number from 2, at least 32" in errors[-1]
    assert "Traceback" not in "\n".join(errors)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    arguments = ("shapes", f"--data_dir={tmp_path}/file/data")
    status, _, errors = run(monkeypatch, capfd, prepare, *arguments)
    assert status == 2
    assert "--data_dir cannot be made" in errors[-1]
