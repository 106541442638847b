import itertools

import numpy as np
import pytest
from scipy import ndimage

from imagen_jax.data.sources.shapes import (
    COLOURS,
    HELD_OUT,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    caption,
    draw_scene,
    swap,
)
from imagen_jax.data.sources.shapes_drawing import Placed, draw, render
from imagen_jax.evaluation.shapes_checker import FACTS, judge, look

SCENES = [draw_scene(5, i, split) for split in ("seen", *HELD_OUT) for i in range(30)]


def verdicts(change, scenes=SCENES, size=64):
    pictures = [draw(scene, (i,), size) for i, scene in enumerate(scenes)]
    return [
        judge(look(change(picture)), scene)
        for picture, scene in zip(pictures, scenes, strict=True)
    ]


@pytest.mark.parametrize(("size", "every"), [(64, 1), (128, 7), (256, 11)])
def test_real_pictures_pass(size, every):
    for verdict in verdicts(lambda x: x, SCENES[::every], size):
        assert verdict == dict.fromkeys(FACTS, True)


def test_noise_and_blur_hardly_matter():
    rng = np.random.default_rng(0)

    def noisy(picture):
        noise = rng.normal(0, 20, picture.shape)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)

    def blurred(picture):
        return ndimage.gaussian_filter(picture, (1, 1, 0))

    assert np.mean([v["all"] for v in verdicts(noisy)]) >= 0.98
    assert np.mean([v["all"] for v in verdicts(blurred)]) >= 0.99


def test_other_scenes_pictures_never_pass():
    seens = [look(draw(scene, (i,))) for i, scene in enumerate(SCENES)]
    pairs = [
        (seen, asked)
        for (seen, drawn), asked in itertools.product(
            zip(seens, SCENES, strict=True), SCENES
        )
        if _says(drawn) != _says(asked)
    ]
    assert len(pairs) > 20_000
    assert not [caption(asked) for seen, asked in pairs if judge(seen, asked)["all"]]


def _says(scene):
    """Returns what is equal where one picture may be right for both sentences."""
    if len(scene.things) == 1:
        return scene.ground, scene.things  # "a red star" may be large or in a corner
    if scene.detail in ("below", "right of"):
        mirrored = {"below": "above", "right of": "left of"}[scene.detail]
        return scene.ground, scene.things[::-1], mirrored
    return scene.ground, scene.things, scene.detail


def _one_fact_changed(scene):
    """Yields (the fact that is wrong, a scene that differs in one word)."""
    used = {scene.ground, *(colour for colour, _ in scene.things)}
    free = next(colour for colour in COLOURS if colour not in used)
    (colour, shape), *rest = scene.things
    yield "ground", scene._replace(ground=free)
    others = [free if c == colour and scene.kind == "count" else c for c, _ in rest]
    rest_shapes = [s for _, s in rest]
    recoloured = zip(others, rest_shapes, strict=True)
    yield "colour", scene._replace(things=((free, shape), *recoloured))
    other_shape = SHAPES[(SHAPES.index(shape) + 1) % 4]
    if scene.kind == "count":
        yield "shape", scene._replace(things=((colour, other_shape),) * (1 + len(rest)))
        fewer = len(rest) or 3
        yield "count", scene._replace(things=((colour, shape),) * fewer)
    elif (colour, other_shape) not in rest:
        yield "shape", scene._replace(things=((colour, other_shape), *rest))
    for words in (SIZES, PLACES, RELATIONS):
        if scene.detail in words:
            other = words[(words.index(scene.detail) + 1) % len(words)]
            yield "layout", scene._replace(detail=other)


def test_one_wrong_fact_is_told_by_name():
    seen = {}
    for i, scene in enumerate(SCENES):
        for fact, wrong in _one_fact_changed(scene):
            verdict = judge(look(draw(wrong, (i,))), scene)
            seen[fact] = seen.get(fact, 0) + 1
            assert not verdict[fact], (caption(wrong), caption(scene))
            assert not verdict["all"]
    assert set(seen) == {*FACTS} - {"binding", "all"}
    assert min(seen.values()) >= 20


def test_swapped_colours_are_wrong_in_binding_alone():
    for i in range(30):
        scene = draw_scene(1, i, "binding")
        verdict = judge(look(draw(swap(scene), (i,))), scene)
        wrong = {fact for fact, right in verdict.items() if not right}
        assert wrong == {"binding", "layout", "all"}


def test_what_is_seen_is_where_it_was_drawn():
    things = [
        Placed("red", "star", 0.3, 0.26, 0.18),
        Placed("black", "circle", 0.7, 0.74, 0.17),
    ]
    seen = look(render("yellow", things, 64))
    assert seen.ground == "yellow"
    for found, drawn in zip(seen.things, things, strict=True):
        assert found[:2] == drawn[:2]
        assert found[2:] == pytest.approx(drawn[2:], abs=1.5 / 64)


def test_a_thin_line_is_no_thing():
    thing = Placed("red", "star", 0.3, 0.3, 0.18)
    picture = render("yellow", [thing], 64)
    picture[50, 10:55] = 0
    assert [found.colour for found in look(picture).things] == ["red"]


def test_pictures_without_a_thing_fail():
    grey = np.full((64, 64, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for picture in (grey, noise):
        assert not any(judge(look(picture), scene)["all"] for scene in SCENES)


@pytest.mark.parametrize("shape", [(32, 32, 3), (96, 96, 3)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="a multiple of 64"):
        look(np.zeros(shape, np.uint8))


def test_every_split_is_tested_here():
    assert len(SCENES) == 30 * (len(SPLITS) - 1)
