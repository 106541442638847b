"""Crop training: the low-res crop is a part of the whole picture's reduction."""

import numpy as np
import pytest

from imagen_jax.config_file import load_config
from imagen_jax.data.crops import CropSpec, crop_offset, crop_pair
from imagen_jax.data.images import box_downsample, encode_png
from imagen_jax.data.pipeline import BatchMaker
from imagen_jax.data.records import Record
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from tests.conftest import ROOT
from tests.tiny import tiny_config

CROP = CropSpec(size=8, factor=4)


def picture(seed=0, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("offset", [(0, 0), (4, 20), (24, 24)])
def test_a_crop_and_its_low_res_show_the_same_part(offset):
    whole = picture()
    large, small = crop_pair(whole, offset, CROP)
    top, left = offset
    np.testing.assert_array_equal(large, whole[top : top + 8, left : left + 8])
    # Reduced first: the part of what sampling would feed.
    fed = box_downsample(whole, 4)
    part = fed[top // 4 : top // 4 + 2, left // 4 : left // 4 + 2]
    np.testing.assert_array_equal(small, part)


def test_offsets_are_multiples_of_the_factor_and_cover_the_picture():
    offsets = np.array([crop_offset(0, p, 32, CROP) for p in range(500)])
    assert not (offsets % 4).any()
    for axis in (0, 1):
        values, counts = np.unique(offsets[:, axis], return_counts=True)
        assert values.tolist() == list(range(0, 25, 4))
        assert counts.min() > 40  # 71 expected
    assert crop_offset(0, 7, 32, CROP) == tuple(offsets[7])
    assert any(crop_offset(1, p, 32, CROP) != tuple(offsets[p]) for p in range(5))
    assert crop_offset(0, 0, 8, CROP) == (0, 0)


class Pictures:
    """Record i is `picture(i)`."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return Record(encode_png(picture(index)), str(index), f"record {index}")


def text_fn(captions):
    numbers = np.array([[[float(c)]] for c in captions], np.float32)
    return TextEmbeddings(numbers, np.ones(numbers.shape[:2], bool))


def maker(shard=((0,), 1)):
    settings = {"resolution": 32, "batch_size": 4, "seed": 1}
    return BatchMaker(Pictures(), text_fn, crop=CROP, shard=shard, **settings)


def test_batches_of_crops_are_the_same_for_every_host_count():
    whole = maker().batch(2)
    assert whole.image.shape == (4, 8, 8, 3)
    assert whole.low_res.shape == (4, 2, 2, 3)
    halves = [maker(((i,), 2)).batch(2) for i in range(2)]
    for name in ("image", "low_res"):
        parts = np.concatenate([getattr(half, name) for half in halves])
        np.testing.assert_array_equal(getattr(whole, name), parts)
    for image, low_res in zip(whole.image, whole.low_res, strict=True):
        np.testing.assert_array_equal(box_downsample(image, 4), low_res)


def test_a_record_is_cropped_elsewhere_in_another_epoch():
    crops = {}
    for k in range(10):  # 40 positions: 8 epochs of 5 records
        batch = maker().batch(k)
        for image, number in zip(batch.image, batch.text.embed[:, 0, 0], strict=True):
            crops.setdefault(int(number), set()).add(image.tobytes())
    assert all(len(different) >= 5 for different in crops.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"crop_size": 32}}, "at most as large as its resolution, 16"),
        ({"data": {"crop_size": 6}}, "must be a multiple of 4"),
        ({"data": {"crop_size": 8}}, "self_attention is not False"),
        ({"data": {"crop_size": -1}}, "at least 0"),
    ],
)
def test_crops_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_config("sr", **changes)


def test_a_base_stage_takes_no_crops():
    with pytest.raises(UserError, match="only a super-resolution stage takes crops"):
        tiny_config("base", data={"crop_size": 4})


def test_the_papers_last_stage_trains_on_crops_of_whole_pictures():
    config = load_config(str(ROOT / "configs" / "imagen_sr1024_400m.py"))
    assert (config.resolution, config.low_res_resolution) == (1024, 256)
    assert config.data.crop_size == 256
