"""Colours of an enlarged picture against what it was made from."""

import numpy as np

from imagen_jax.sampling.colour import blur, colour_report, correct_colour

RNG = np.random.default_rng(0)
SCALE = 4


def picture(height=24, width=40):
    """A low-res picture without the darkest and brightest levels."""
    rows, columns = np.mgrid[:height, :width]
    base = 110 + 40 * np.sin(rows / 5) + 30 * np.cos(columns / 7)
    return (base[..., None] + [0, 20, 40]).astype(np.uint8)


def enlarged(low_res, detail=20):
    """It enlarged, with detail whose box average is 0."""
    large = low_res.repeat(SCALE, 0).repeat(SCALE, 1).astype(int)
    rows, columns = np.mgrid[: large.shape[0], : large.shape[1]]
    sign = (-1) ** (rows + columns)
    return (large + detail * sign[..., None]).astype(np.uint8)


def test_detail_is_no_colour_shift():
    low_res = picture()
    report = colour_report(enlarged(low_res), low_res)
    assert report.largest < 1e-3
    np.testing.assert_array_equal(
        correct_colour(enlarged(low_res), low_res), enlarged(low_res)
    )


def test_a_constant_shift_is_reported_and_removed_exactly():
    low_res = picture()
    shifted = enlarged(low_res) + np.array([6, 0, -9]).astype(np.uint8)
    report = colour_report(shifted, low_res)
    np.testing.assert_allclose(report.shift, [6.0, 0.0, -9.0], atol=1e-3)
    np.testing.assert_allclose((report.mean, report.largest), (5.0, 9.0), atol=1e-3)
    assert "+6.00 +0.00 -9.00" in str(report)
    np.testing.assert_array_equal(correct_colour(shifted, low_res), enlarged(low_res))


def test_a_shift_that_varies_slowly_is_mostly_removed_and_detail_kept():
    low_res = picture(48, 64)
    good = enlarged(low_res)
    ramp = np.linspace(-12, 12, good.shape[1])[None, :, None]
    shifted = np.round(good + ramp).astype(np.uint8)
    before = colour_report(shifted, low_res)
    fixed = correct_colour(shifted, low_res)
    after = colour_report(fixed, low_res)
    assert before.largest > 10
    assert abs(before.shift[0]) < 0.1  # it cancels in the mean, not in the largest
    assert after.mean < 0.1 * before.mean
    difference = np.abs(fixed.astype(int) - good)
    assert difference.mean() < 0.5
    contrast = np.abs(np.diff(fixed.astype(int), axis=1)).mean()
    np.testing.assert_allclose(
        contrast, np.abs(np.diff(good.astype(int), axis=1)).mean(), rtol=0.02
    )


def test_levels_end_at_0_and_255():
    low_res = np.full((8, 8, 3), 250, np.uint8)
    output = np.full((32, 32, 3), 240, np.uint8)
    output[0, 0] = 255
    assert correct_colour(output, low_res).max() == 255
    assert correct_colour(255 - output, 255 - low_res).min() == 0


def test_blur_keeps_constants_and_the_mean_even_of_tiny_pictures():
    x = RNG.standard_normal((3, 30, 2)).astype(np.float32)
    np.testing.assert_allclose(blur(np.ones_like(x), 4.0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(blur(x, 4.0).mean(), x.mean(), atol=1e-5)
    impulse = np.zeros((41, 41, 1), np.float32)
    impulse[20, 20] = 1.0
    rows = np.arange(41) - 20.0
    spread = (blur(impulse, 3.0)[..., 0].sum(1) * rows**2).sum()
    np.testing.assert_allclose(np.sqrt(spread), 3.0, rtol=0.05)
