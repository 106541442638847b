"""Traps of reference/imagen.md that lie in the data.

T17: low-resolution training pictures made without antialiasing have statistics that
the base model never produces.
"""

import numpy as np
import pytest

from imagen_jax.data import images


def _stripes(period, side=96):
    """Returns one-pixel white lines, every `period` pixels, both ways."""
    picture = np.zeros((side, side, 3), np.uint8)
    picture[::period] = 255
    picture[:, ::period] = 255
    return picture


@pytest.mark.parametrize("resolution", [48, 24])
def test_t17_reduced_fine_detail_is_its_average_not_an_alias(resolution):
    checkers = np.indices((96, 96)).sum(axis=0) % 2 * 255
    picture = np.repeat(checkers[..., None], 3, axis=-1).astype(np.uint8)
    aliased = picture[:: 96 // resolution, :: 96 // resolution]
    assert np.unique(aliased).tolist() == [0]  # what picking pixels would give
    reduced = images.resize_and_crop(picture, resolution)
    assert np.unique(reduced).tolist() == [128]


@pytest.mark.parametrize("resolution", [20, 37, 61])
def test_t17_holds_for_sizes_that_do_not_divide(resolution):
    picture = _stripes(3)
    reduced = images.resize_and_crop(picture, resolution).astype(float)
    picked = np.arange(resolution) * 96 // resolution
    aliased = picture[picked][:, picked].astype(float)
    assert abs(reduced.mean() - picture.mean()) < 2
    assert reduced.std() < 0.6 * aliased.std()


def test_t17_all_stages_see_one_low_resolution_picture():
    # The base's training picture is the super-resolution model's low-res picture.
    rng = np.random.default_rng(0)
    master = rng.integers(0, 256, (256, 256, 3), np.uint8)
    base = images.resize_and_crop(master, 64)
    low_res = images.box_downsample(images.resize_and_crop(master, 256), 4)
    np.testing.assert_array_equal(base, low_res)
