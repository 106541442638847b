"""What the doctor overfits: settings, pictures and text; and the small stages."""

import dataclasses

import jax
import numpy as np
import pytest

from imagen_jax.config_file import load_config
from imagen_jax.data.crops import CropSpec
from imagen_jax.data.images import encode_png
from imagen_jax.data.records import Record
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.errors import UserError
from imagen_jax.stage import build_stage
from imagen_jax.training.overfit import (
    fake_text,
    overfit_config,
    read_pictures,
    repeated_batch,
)
from imagen_jax.training.shrink import shrink
from tests.conftest import ROOT
from tests.tiny import tiny_config

CONFIGS = sorted((ROOT / "configs").glob("*.py"))
KEPT = ("kind", "text_pooling", "patch_size", "remat", "dtype")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_shrinks_to_the_same_kind(path):
    config = load_config(str(path))
    small, crop = overfit_config(shrink(config), 10)
    for name in KEPT:
        assert getattr(config.network, name) == getattr(small.network, name)
    assert small.diffusion == config.diffusion
    assert small.optimizer.kind == config.optimizer.kind
    assert small.is_super_resolution == config.is_super_resolution
    assert (crop is None) == (config.data.crop_size == 0)
    stage = build_stage(small)
    shapes = jax.tree.leaves(jax.eval_shape(stage.init_params, jax.random.key(0)))
    assert sum(leaf.size for leaf in shapes) < 4e6
    pictures = read_pictures(SyntheticSource(64, 256), shrink(config), crop)
    assert pictures.image.shape == (8, small.resolution, small.resolution, 3)
    if config.is_super_resolution:
        side = small.low_res_resolution
        assert pictures.low_res.shape == (8, side, side, 3)
        factor = config.resolution // config.low_res_resolution
        assert small.resolution // side == factor


def test_a_store_keeps_the_text_that_it_holds():
    config = tiny_config(text={"width": 384, "max_length": 77}, data={"store": "DIR"})
    assert shrink(config).text == config.text


def test_a_short_run_learns_faster_but_0_stays_0():
    config = tiny_config(optimizer={"learning_rate": 1e-5, "warmup_steps": 10_000})
    fitted, _ = overfit_config(config, 100)
    assert fitted.optimizer.learning_rate == 4e-3
    assert fitted.optimizer.warmup_steps == 20
    config = tiny_config(optimizer={"learning_rate": 0.0})
    assert overfit_config(config, 100)[0].optimizer.learning_rate == 0


@pytest.mark.parametrize(("resolution", "batch_size"), [(32, 32), (64, 8)])
def test_small_pictures_are_taken_at_several_noise_levels(resolution, batch_size):
    config = tiny_config(resolution=resolution, train={"microbatches": 4})
    train = overfit_config(config, 100)[0].train
    assert (train.batch_size, train.microbatches) == (batch_size, 4)


def test_pictures_have_distinct_captions_and_their_own_low_res():
    class Repeating(SyntheticSource):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            return record._replace(caption=f"caption {index // 3}")

    config = tiny_config("sr")
    pictures = read_pictures(Repeating(64, 16), config, None)
    assert pictures.captions == [f"caption {i}" for i in range(8)]
    reduced = pictures.image.reshape(8, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(reduced - pictures.low_res).max() <= 0.5


def test_a_crop_is_not_an_empty_corner():
    class Dot(SyntheticSource):
        def __getitem__(self, index):
            picture = np.full((64, 64, 3), 255, np.uint8)
            picture[24:40, 24:40] = 0
            return Record(encode_png(picture), f"dot {index}", f"dot[{index}]")

    tree = {"low_res_resolution": 32, "data": {"crop_size": 16}}
    network = {"self_attention": [False, False]}
    config = tiny_config("sr", resolution=64, network=network, **tree)
    pictures = read_pictures(Dot(8, 64), config, CropSpec(16, 2))
    assert pictures.image.std(axis=(1, 2, 3)).min() > 0
    reduced = pictures.image.reshape(8, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(reduced - pictures.low_res).max() <= 0.5


def test_a_batch_repeats_each_picture_with_its_text():
    captions = [f"caption {i}" for i in range(8)]
    config = tiny_config("sr")
    pictures = read_pictures(SyntheticSource(64, 16), config, None)
    text = fake_text(captions, 6, 4)
    batch = repeated_batch(pictures, text, 16, with_low_res=True)
    for rows in (slice(8), slice(8, 16)):
        np.testing.assert_array_equal(batch.image[rows], pictures.image)
        np.testing.assert_array_equal(batch.low_res[rows], pictures.low_res)
        np.testing.assert_array_equal(batch.text.embed[rows], text.embed)
    assert repeated_batch(pictures, text, 16, with_low_res=False).low_res is None


def test_a_source_without_a_picture_of_the_size_is_the_users_mistake():
    config = dataclasses.replace(tiny_config("base"), resolution=16)
    with pytest.raises(UserError, match="no picture that can be read at 16 pixels"):
        read_pictures(SyntheticSource(8, 8), config, None)


def test_fake_text_follows_the_caption():
    text = fake_text(["a red cat", "a red cat", "a dog", ""], 6, 4)
    embed = text.embed.astype(np.float32)
    assert embed.shape == (4, 4, 6)
    np.testing.assert_array_equal(text.mask.sum(1), [3, 3, 2, 1])
    np.testing.assert_array_equal(embed[0], embed[1])
    assert np.abs(embed[0] - embed[2]).max() > 0.1
    assert not embed[3].any()
    assert not embed[0, 3:].any()
