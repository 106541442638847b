import numpy as np
import pytest

from imagen_jax.features.resize import resize

from .networks import random_pictures


def keys_kernel(x):
    """Keys' cubic kernel with a = -0.5, as Pillow has it."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def weights(old, new):
    """The antialiased filter: as wide as two pixels of the coarser grid."""
    scale = max(old / new, 1)
    centres = (np.arange(new) + 0.5) * old / new
    matrix = keys_kernel((np.arange(old) + 0.5 - centres[:, None]) / scale)
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [16, 299, 64])
def test_is_the_antialiased_cubic_filter_without_rounding(size):
    (picture,) = random_pictures(1, 64, 96)
    expected = np.einsum(
        "yi,xj,ijc->yxc",
        weights(64, size),
        weights(96, size),
        picture.astype(float),
        optimize=True,
    ).clip(0, 255)
    found = resize(picture, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert np.abs(found - np.rint(found)).max() > 0.1


def test_a_picture_of_that_size_is_unchanged():
    (picture,) = random_pictures(1, 32, 32)
    np.testing.assert_array_equal(resize(picture, 32), picture)


def test_overshoot_is_clipped():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = 255
    found = resize(picture, 64)
    assert found.min() == 0
    assert found.max() == 255
