"""Editing with a whole cascade of tiny stages."""

import dataclasses

import jax
import numpy as np
import pytest

from imagen_jax.data.images import box_downsample
from imagen_jax.diffusion.samplers import SAMPLERS
from imagen_jax.errors import UserError
from imagen_jax.sampling.cascade import CascadeStage, Texts, sample_cascade
from imagen_jax.sampling.editing import (
    Editing,
    at_resolution,
    edit_cascade,
    fit_mask,
    fit_picture,
)
from imagen_jax.sampling.sampler import Sampler
from tests.tiny import ONE_LEVEL, tiny_stage, tiny_text

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), bool)
MASK[5:12, 3:10] = True
TEXT = jax.tree.map(np.asarray, tiny_text(3))
SEEDS = np.array([4, 4, 9], np.uint32)
MIX = (np.array([7, 7, 7]), np.array([0.0, 0.5, 1.0], np.float32))


@pytest.fixture(scope="module")
def stages(fill_params):
    result = []
    for kind in ("base", "sr"):
        stage = tiny_stage(kind, network=ONE_LEVEL[kind])
        params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 1)
        result.append(CascadeStage(Sampler(stage), params))
    return result


def with_kind(stages, kind):
    """The same stages with another sampler."""
    changed = []
    for stage in stages:
        config = dataclasses.replace(stage.sampler.config, kind=kind)
        sampler = Sampler(stage.sampler.stage, config)
        changed.append(stage._replace(sampler=sampler))
    return changed


def edited(stages, seeds=SEEDS, batch_size=3, **changes):
    asked = Editing(**changes)
    return edit_cascade(stages, Texts(TEXT), seeds, asked, batch_size=batch_size)


def plain(stages, seeds=SEEDS):
    seeds = np.asarray(seeds, np.uint32)
    return sample_cascade(stages, Texts(TEXT), seeds, batch_size=3)


def check_strengths(stages):
    """0 is the picture, 1 plain sampling, bitwise at every stage; between, neither."""
    for made, expected in zip(
        edited(stages, picture=PICTURE, strength=0.0),
        (box_downsample(PICTURE, 2), PICTURE),
        strict=True,
    ):
        np.testing.assert_array_equal(made, np.repeat(expected[None], 3, axis=0))
    assert [stage.sampler.num_traces for stage in stages] == [0, 0]
    sampled = plain(stages)
    whole = edited(stages, picture=PICTURE, strength=1.0)
    for made, expected in zip(whole, sampled, strict=True):
        np.testing.assert_array_equal(made, expected)
    assert [stage.sampler.num_traces for stage in stages] == [1, 1]
    distances = []
    for strength in (0.01, 0.5, 0.999):
        made = edited(stages, picture=PICTURE, strength=strength)[-1]
        distances.append(np.abs(made.astype(int) - PICTURE).mean())
        assert np.mean(made != sampled[-1]) > 0.1
    assert 0 < distances[0] < distances[1] < distances[2]
    assert [stage.sampler.num_traces for stage in stages] == [2, 2]


def test_strength_0_is_the_picture_and_1_is_plain_sampling(stages):
    check_strengths(with_kind(stages, "ddpm"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLERS[1:])
def test_strength_of_every_sampler(stages, kind):
    check_strengths(with_kind(stages, kind))


def check_inpainting(stages):
    """What is known stays bitwise at every stage; the rest is drawn, by seed."""
    asked = {"picture": PICTURE, "mask": MASK, "jump": 1, "repeats": 2}
    small, large = edited(stages, **asked)
    low_mask = MASK.reshape(8, 2, 8, 2).any((1, 3))
    for made, picture, mask in (
        (small, box_downsample(PICTURE, 2), low_mask),
        (large, PICTURE, MASK),
    ):
        for result in made:
            np.testing.assert_array_equal(result[~mask], picture[~mask])
            assert np.mean(result[mask] != picture[mask]) > 0.9
        assert np.mean(made[1][mask] != made[2][mask]) > 0.5
    again = edited(stages, **asked, strength=0.7)[-1]
    np.testing.assert_array_equal(again[:, ~MASK], large[:, ~MASK])
    assert np.mean(again[:, MASK] != large[:, MASK]) > 0.5


def test_inpainting_keeps_what_is_known(stages):
    check_inpainting(stages)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLERS[1:])
def test_inpainting_by_every_sampler(stages, kind):
    check_inpainting(with_kind(stages, kind))


def test_what_is_masked_does_not_show_through(stages):
    """Red if a low-res pixel is known that was averaged from masked ones."""
    other = PICTURE.copy()
    other[MASK] = 255 - other[MASK]
    asked = {"mask": MASK, "jump": 1, "repeats": 2}
    first = edited(stages, picture=PICTURE, **asked)
    second = edited(stages, picture=other, **asked)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_variations_run_from_one_seed_to_the_other(stages):
    """Ends within a level of both seeds' own pictures; between, neither of them."""
    for made, own in zip(
        edited(stages, np.array([4, 4, 4], np.uint32), mix=MIX),
        plain(stages, [4, 4, 7]),
        strict=True,
    ):
        for place in (0, 2):
            difference = np.abs(made[place].astype(int) - own[place])
            assert np.mean(difference <= 1) >= 0.999
        assert np.mean(made[1] != own[1]) > 0.5


def test_one_program_for_all_values(stages):
    fresh = with_kind(stages, "ddpm")
    for strength, mask, share in ((0.3, MASK, 0.2), (0.8, MASK.T, 0.9)):
        mix = (np.array([1, 2, 3]), np.full(3, share, np.float32))
        edited(fresh, picture=PICTURE, mask=mask, strength=strength, mix=mix)
    assert [stage.sampler.num_traces for stage in fresh] == [1, 1]


def test_batches_do_not_matter(stages):
    asked = {"picture": PICTURE, "mask": MASK, "mix": MIX, "repeats": 1}
    whole = edited(stages, **asked)[-1].astype(int)
    parts = edited(stages, batch_size=2, **asked)[-1]
    assert np.mean(np.abs(whole - parts) <= 1) >= 0.999


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"picture": PICTURE, "strength": 1.5}, "must be in [0, 1]"),
        ({"picture": PICTURE, "strength": float("nan")}, "must be in [0, 1]"),
        ({"strength": 0.5}, "give the picture too"),
        ({"mask": MASK}, "give the picture too"),
        ({"picture": PICTURE, "mask": MASK[:8]}, "16 x 8 pixels and the picture"),
        ({"picture": PICTURE, "mask": MASK & False}, "black everywhere"),
        ({"picture": PICTURE, "mask": MASK, "jump": 0}, "at least 1"),
        ({"picture": PICTURE, "mask": MASK, "repeats": 0}, "at least 1"),
        ({"picture": PICTURE[:8, :8]}, "makes 16 x 16"),
    ],
)
def test_what_does_not_fit_is_refused(stages, changes, message):
    with pytest.raises(UserError) as caught:
        edited(stages, **changes)
    assert message in str(caught.value)


def test_fitting_any_size():
    np.testing.assert_array_equal(fit_picture(PICTURE, 16), PICTURE)
    np.testing.assert_array_equal(fit_picture(PICTURE, 8), box_downsample(PICTURE, 2))
    wide = np.concatenate([PICTURE * 0, PICTURE, PICTURE * 0], axis=1)
    np.testing.assert_array_equal(fit_picture(wide, 16), PICTURE)
    assert fit_picture(PICTURE[:5, :7], 16).shape == (16, 16, 3)
    np.testing.assert_array_equal(fit_mask(MASK, 16), MASK)
    low_mask = MASK.reshape(8, 2, 8, 2).any((1, 3))
    np.testing.assert_array_equal(fit_mask(MASK, 8), low_mask)
    assert fit_mask(MASK, 32)[10:24, 6:20].all()
    low = at_resolution(Editing(PICTURE, MASK), 8)
    np.testing.assert_array_equal(low.mask, low_mask)
    np.testing.assert_array_equal(low.picture, box_downsample(PICTURE, 2))
