import numpy as np
import pytest

from imagen_jax.data.images import box_downsample
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.super_resolution import psnr, sr_metrics, upsample_bicubic

PAIRS = openmoji.pairs("default")[:64:13]


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.stack([openmoji.compose_variant(pair, 0, "sr", 256) for pair in PAIRS])


@pytest.fixture(scope="module")
def low_res(truth) -> np.ndarray:
    return np.stack([box_downsample(picture, 4) for picture in truth])


def test_psnr_by_hand():
    a = np.zeros((2, 4, 4, 3), np.uint8)
    b = a.copy()
    b[0], b[1, 0, 0, 0] = 10, 255
    expected = [20 * np.log10(255 / 10), 10 * np.log10(48)]
    np.testing.assert_allclose(psnr(a, b), expected)
    np.testing.assert_allclose(psnr(b, a), expected)


def test_psnr_of_the_same_picture_is_finite(truth):
    np.testing.assert_allclose(psnr(truth, truth), 10 * np.log10(255**2 * 12))


def test_bicubic_gains_nothing(truth, low_res):
    metrics = sr_metrics(upsample_bicubic(low_res, 256), truth, low_res)
    np.testing.assert_allclose(metrics.gain_db, 0.0)
    assert metrics.consistency_db.min() > 25
    assert metrics.swap_db.min() > 10


def test_the_truth_is_best(truth, low_res):
    metrics = sr_metrics(truth, truth, low_res)
    assert metrics.gain_db.min() > 20
    np.testing.assert_allclose(metrics.consistency_db, 10 * np.log10(255**2 * 12))


def test_blur_gains_less_than_bicubic(truth, low_res):
    nearest = low_res.repeat(4, axis=1).repeat(4, axis=2)
    metrics = sr_metrics(nearest, truth, low_res)
    assert metrics.gain_db.max() < 0


def test_a_stage_that_ignores_its_input_is_caught(truth, low_res):
    """Every output is the same picture, or another input's."""
    same = np.broadcast_to(truth[:1], truth.shape)
    assert sr_metrics(same, truth, low_res).swap_db[1:].mean() < 3
    rotated = np.roll(truth, 1, axis=0)
    metrics = sr_metrics(rotated, truth, low_res)
    assert metrics.consistency_db.max() < 25
    assert metrics.swap_db.max() < 0
    assert metrics.gain_db.max() < 0


def test_swap_is_the_mean_over_all_others(truth, low_res):
    output = upsample_bicubic(low_res, 256)
    reduced = np.stack([box_downsample(picture, 4) for picture in output])
    for i, swap in enumerate(sr_metrics(output, truth, low_res).swap_db):
        own = psnr(reduced[i : i + 1], low_res[i : i + 1])[0]
        others = np.delete(low_res, i, axis=0)
        against = psnr(np.broadcast_to(reduced[i], others.shape), others)
        assert swap == pytest.approx(own - against.mean())


def test_one_picture_has_no_swap(truth, low_res):
    assert sr_metrics(truth[:1], truth[:1], low_res[:1]).swap_db is None
