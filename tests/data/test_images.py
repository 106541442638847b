import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagen_jax.data import images
from imagen_jax.data.records import BadRecordError


def _picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def _file(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_png_round_trip():
    picture = _picture(13, 7)
    np.testing.assert_array_equal(images.decode(images.encode_png(picture)), picture)


def test_transparency_is_composited_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, :3] = (200, 0, 100)
    rgba[0, :, 3] = (0, 255, 51)  # clear, opaque, one fifth
    decoded = images.decode(_file(Image.fromarray(rgba)))
    expected = [(255, 255, 255), (200, 0, 100), (244, 204, 224)]
    np.testing.assert_allclose(decoded[0], expected, atol=1)


def test_a_palette_with_transparency_is_composited_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    decoded = images.decode(_file(image, transparency=0))
    np.testing.assert_array_equal(decoded[0], [(255, 255, 255), (0, 0, 255)])


def test_16_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    decoded = images.decode(_file(Image.fromarray(grey)))
    np.testing.assert_array_equal(decoded[0, :, 1], [0, 100, 255])


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("CMYK", "JPEG")])
def test_other_modes_become_rgb(mode, form):
    decoded = images.decode(_file(Image.new("RGB", (8, 8), "gray").convert(mode), form))
    assert decoded.shape == (8, 8, 3)
    np.testing.assert_allclose(decoded, 128, atol=2)


def test_the_camera_s_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, :8] = 255  # white left half becomes the top half
    decoded = images.decode(_file(Image.fromarray(picture), exif=exif))
    assert decoded.shape == (16, 8, 3)
    assert decoded[:8].min() == 255
    assert decoded[8:].max() == 0


@pytest.mark.parametrize(
    ("form", "damage"),
    [
        ("PNG", lambda data: b""),
        ("PNG", lambda data: b"not a picture"),
        ("PNG", lambda data: data[: len(data) // 2]),
        ("PNG", lambda data: data[:60] + bytes(40) + data[100:]),
        ("JPEG", lambda data: data[: len(data) // 2]),
        ("WEBP", lambda data: data[: len(data) // 2]),
    ],
    ids=["empty", "text", "half", "zeros inside", "half a JPEG", "half a WebP"],
)
def test_damaged_files_are_bad_records(form, damage):
    data = damage(_file(Image.fromarray(_picture(32, 32)), form))
    with pytest.raises(BadRecordError) as error:
        images.decode(data)
    assert error.value.reason == "corrupt picture"


def test_a_huge_picture_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    assert images.decode(images.encode_png(_picture(9, 11))).shape == (9, 11, 3)
    truncated = images.encode_png(_picture(10, 10))[:60]  # the header is enough
    with pytest.raises(BadRecordError, match="10 x 10") as error:
        images.decode(truncated)
    assert error.value.reason == "picture too large"


def test_box_average_by_hand():
    picture = np.array([[0, 1, 10, 20], [1, 1, 30, 41]], np.uint8)[..., None]
    averages = images.box_downsample(picture, 2)
    assert averages.dtype == np.uint8
    assert averages[..., 0].tolist() == [[1, 25]]  # 0.75 and 25.25
    halves = images.box_downsample(np.array([[0, 1]] * 2, np.uint8)[..., None], 2)
    assert halves.item() == 1  # 0.5 is rounded upwards


def test_box_average_of_floats_is_exact():
    picture = np.random.default_rng(0).normal(size=(6, 9, 2)).astype(np.float32)
    averages = images.box_downsample(picture, 3)
    assert averages.dtype == np.float32
    np.testing.assert_allclose(
        averages[1, 2], picture[3:6, 6:9].mean(axis=(0, 1)), rtol=1e-5
    )


def test_box_average_refuses_a_remainder():
    with pytest.raises(ValueError, match="10 x 8"):
        images.box_downsample(_picture(10, 8), 4)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_filter_is_the_diffusion_s_to_one_level(factor):
    from imagen_jax.diffusion import augmentation

    picture = _picture(64, 64)
    unit = augmentation.to_unit(jnp.asarray(picture)[None])
    other = augmentation.to_uint8(augmentation.downsample(unit, factor))[0]
    ours = images.box_downsample(picture, factor)
    difference = ours.astype(int) - np.asarray(other).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_multiple_is_the_box_average_of_the_central_square():
    picture = _picture(64, 101)
    resized = images.resize_and_crop(picture, 16)
    square = picture[:, (101 - 64) // 2 :][:, :64]
    np.testing.assert_array_equal(resized, images.box_downsample(square, 4))


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (31, 31), (100, 47)])
def test_any_larger_size_becomes_the_resolution(size):
    flat = np.full((*size, 3), (10, 200, 77), np.uint8)
    resized = images.resize_and_crop(flat, 16)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.full((16, 16, 3), (10, 200, 77)))


def test_the_crop_is_central():
    # A ramp from left to right: its mean is kept, whatever the rounding.
    ramp = np.broadcast_to(np.arange(150, dtype=np.uint8)[None, :, None], (50, 150, 3))
    resized = images.resize_and_crop(ramp, 20)
    assert abs(float(resized.mean()) - 74.5) < 1.1
    np.testing.assert_allclose(np.diff(resized[0, :, 0].astype(int)), 2.5, atol=1)


def test_a_smaller_picture_is_a_bad_record():
    with pytest.raises(BadRecordError, match="20 x 15, 16 needed") as error:
        images.resize_and_crop(_picture(15, 20), 16)
    assert error.value.reason == "picture too small"
