"""Tiles: their places, their weights, their noise, and a stage that uses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.sampling.noise import FIRST_STEP, field_noise_of
from imagen_jax.sampling.sampler import Sampler
from imagen_jax.sampling.tiling import Tiling, tiled, upscale_picture
from tests.tiny import ONE_LEVEL, tiny_stage, tiny_text

TILE, SCALE, OVERLAP = 16, 4, 4
SIZES = [(16, 16), (17, 40), (64, 23), (29, 53), (5, 60), (7, 9)]


def gradient(height, width):
    """A linear picture, in steps of whole levels."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], -1).astype(np.uint8)


def bilinear(tiles):
    """Each enlarged by itself; at its border bilinear repeats the outermost pixel."""
    shape = (len(tiles), tiles.shape[1] * SCALE, tiles.shape[2] * SCALE, 3)
    return np.asarray(jax.image.resize(tiles.astype(np.float32), shape, "bilinear"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [OVERLAP, TILE // 2])
def test_weights_sum_to_one_and_vanish_at_inner_borders(size, overlap):
    height, width = (max(length, TILE) for length in size)
    tiling = Tiling(height, width, TILE, overlap)
    total = np.zeros((height * SCALE, width * SCALE))
    for row, column in tiling.offsets:
        weights = tiling.weights(np.array([row, column]), SCALE)
        assert weights.min() >= 0
        place = (slice(row * SCALE, (row + TILE) * SCALE),)
        place += (slice(column * SCALE, (column + TILE) * SCALE),)
        total[place] += weights
        edge = overlap // 4 * SCALE
        if row > 0:
            assert not weights[:edge].any()
        if column + TILE < width:
            assert not weights[:, -edge:].any()
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_a_linear_picture_has_no_seams(size):
    """A tile alone is wrong by up to 0.375 levels at its border; that must not show."""
    low_res = gradient(*size)
    made = tiled(
        low_res,
        lambda tiles, offsets: bilinear(tiles),
        *(TILE, SCALE),
        overlap=OVERLAP,
        batch_size=3,
    )
    whole = bilinear(low_res[None])[0]
    assert made.shape == whole.shape
    np.testing.assert_allclose(made, whole, atol=2e-5)


def test_a_constant_picture_is_reproduced_and_a_seam_would_show():
    low_res = np.full((40, 40, 3), 77, np.uint8)

    def enlarge(tiles, offsets, shift=0.0):
        return bilinear(tiles) + shift * offsets.sum(1)[:, None, None, None]

    settings = {"tile": TILE, "scale": SCALE, "overlap": OVERLAP, "batch_size": 4}
    np.testing.assert_allclose(tiled(low_res, enlarge, **settings), 77.0, rtol=1e-6)
    uneven = tiled(low_res, lambda t, o: enlarge(t, o, 1.0), **settings)
    # Tiles differ by 12 levels; over 8 pixels that passes by at most 3/16 a pixel.
    assert uneven.max() - uneven.min() == 48.0
    for axis in (0, 1):
        assert np.abs(np.diff(uneven, axis=axis)).max() < 2.3


def test_a_photo_is_that_of_the_whole_picture_for_a_local_filter():
    """Bicubic sees two pixels around, no more than what the weights leave out."""
    rng = np.random.default_rng(0)
    low_res = rng.integers(0, 256, (45, 61, 3), dtype=np.uint8)

    def bicubic(tiles, offsets):
        size = (tiles.shape[2] * SCALE, tiles.shape[1] * SCALE)
        large = [
            np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BICUBIC))
            for tile in tiles
        ]
        return np.stack(large).astype(np.float32)

    made = tiled(low_res, bicubic, TILE, SCALE, overlap=8, batch_size=4)
    np.testing.assert_allclose(made, bicubic(low_res[None], None)[0], atol=1e-3)


@pytest.mark.parametrize("overlap", [-1, 9])
def test_an_overlap_that_a_tile_cannot_have_is_refused(overlap):
    with pytest.raises(UserError, match="from 0 to half of a tile"):
        tiled(
            gradient(20, 20),
            lambda tiles, offsets: bilinear(tiles),
            *(TILE, SCALE),
            overlap=overlap,
            batch_size=1,
        )


def test_tiles_cut_their_noise_from_one_field():
    offsets = jnp.array([[0, 0], [3, 5], [3, 5]])
    seeds = jnp.array([7, 7, 8], jnp.uint32)
    noise = field_noise_of(seeds, 64, offsets, cells=16)
    one, other, of_another_seed = np.asarray(noise(FIRST_STEP, (64, 64, 3)))
    np.testing.assert_array_equal(one[12:, 20:], other[:-12, :-20])
    assert np.abs(other - of_another_seed).mean() > 0.5
    low, later = noise(1, (16, 16, 3)), noise(FIRST_STEP + 1, (64, 64, 3))
    np.testing.assert_array_equal(low[0][3:, 5:], low[1][:-3, :-5])
    assert np.abs(one - later[0]).mean() > 0.5
    np.testing.assert_allclose([one.mean(), one.var()], [0.0, 1.0], atol=0.05)
    neighbours = np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.05


@pytest.fixture(scope="module")
def sr(fill_params):
    stage = tiny_stage("sr", network=ONE_LEVEL["sr"])
    params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 0)
    return Sampler(stage), params


def test_a_stage_enlarges_a_picture_of_any_size(sr):
    """The same pixels whatever the batches; another seed, others."""
    sampler, params = sr
    text = jax.tree.map(np.asarray, tiny_text(1))
    low_res = np.random.default_rng(0).integers(0, 256, (11, 19, 3), dtype=np.uint8)

    def enlarge(seed, batch_size):
        return upscale_picture(
            sampler, params, text, low_res, seed, batch_size=batch_size
        )

    made = enlarge(0, 4)
    assert made.shape == (22, 38, 3)
    assert made.dtype == np.uint8
    other = enlarge(0, 3).astype(int)
    assert np.mean(np.abs(made - other) <= 1) >= 0.999
    assert np.mean(made != enlarge(1, 4)) > 0.5
    assert sampler.num_traces == 2  # one per batch size
    small = upscale_picture(sampler, params, text, low_res[:3, :5], 0)
    assert small.shape == (6, 10, 3)
    assert sampler.num_traces == 2
