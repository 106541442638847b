import io
import zlib

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


def _scene(height, width, seed=0):
    """A picture with detail of every size, as a photograph has."""
    rng = np.random.default_rng(seed)
    scene = np.full((height, width, 3), 128.0)
    for cells in (2, 4, 8, 16, 32, 64):
        shape = (cells, max(1, cells * width // height), 3)
        noise = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        layer = noise.resize((width, height), Image.Resampling.BICUBIC)
        scene += (np.asarray(layer) - 127.5) / cells**0.5
    return np.clip(scene, 0, 255).astype(np.uint8)


def _is_drafted(monkeypatch):
    """Returns a list that gets the scale whenever a JPEG is reduced in decoding."""
    from PIL.JpegImagePlugin import JpegImageFile

    scales, draft = [], JpegImageFile.draft

    def draft_and_note(self, mode, size):
        width = self.size[0]
        result = draft(self, mode, size)
        scales.append(width // self.size[0])
        return result

    monkeypatch.setattr(JpegImageFile, "draft", draft_and_note)
    return scales


@pytest.mark.parametrize(
    ("size", "resolution", "scale"),
    [
        ((512, 672), 64, 8),
        ((672, 512), 128, 4),
        ((512, 672), 256, 2),
        ((640, 672), 64, 2),  # 10 = 2 x 5
        ((1024, 1056), 64, 8),  # 16 = 8 x 2
        ((560, 592), 64, 8),  # 8.75: then from 70 to 64 pixels
    ],
)
@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
def test_a_jpeg_is_reduced_by_the_same_box_filter(
    monkeypatch, size, resolution, scale, subsampling
):
    scene = _scene(*size)
    data = _file(Image.fromarray(scene), "JPEG", quality=90, subsampling=subsampling)
    exact = images.resize_and_crop(images.decode(data), resolution)
    scales = _is_drafted(monkeypatch)
    fast = images.decode_square(data, resolution)
    assert scales == [scale]
    error = fast.astype(float) - exact
    # Luma is the same but for rounding; colours too, unless the JPEG stores them at
    # half the size: then the decoder's interpolation of them is what differs.
    assert np.abs(error @ (0.299, 0.587, 0.114)).max() < 3
    assert np.abs(error).max() <= (4 if subsampling == 0 else 12)
    assert np.abs(error).mean() < (0.6 if subsampling == 0 else 1.5)
    assert np.abs(error.mean((0, 1))).max() < 0.3  # no shift of colours
    # And it is as close to the picture before JPEG.
    truth = images.resize_and_crop(scene, resolution).astype(float)
    rms = [np.sqrt(((picture - truth) ** 2).mean()) for picture in (fast, exact)]
    assert rms[0] < 1.1 * rms[1] + 0.5


@pytest.mark.parametrize(
    ("size", "form", "mode"),
    [
        ((70, 70), "JPEG", "RGB"),  # factor 1
        ((192, 200), "JPEG", "RGB"),  # factor 3
        ((512, 600), "PNG", "RGB"),
        ((512, 600), "WEBP", "RGB"),
    ],
)
def test_other_pictures_are_decoded_whole(monkeypatch, size, form, mode):
    data = _file(Image.fromarray(_scene(*size)).convert(mode), form)
    scales = _is_drafted(monkeypatch)
    square = images.decode_square(data, 64)
    exact = images.resize_and_crop(images.decode(data), 64)
    np.testing.assert_array_equal(square, exact)
    assert scales == []


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpegs_are_reduced_too(mode):
    data = _file(Image.fromarray(_scene(256, 256)).convert(mode), "JPEG", quality=95)
    exact = images.resize_and_crop(images.decode(data), 64).astype(int)
    assert np.abs(images.decode_square(data, 64) - exact).max() <= 4


_TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", _TURNS)
def test_a_reduced_jpeg_is_turned_and_its_edges_are_left_out(orientation):
    # 131 x 259 pixels: the last cells of 2 are half empty, wherever they get to.
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(_scene(131, 259))
    data = _file(image, "JPEG", quality=95, exif=exif, subsampling=0)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    cells = images.box_downsample(stored[:130, :258], 2)
    exact = images.resize_and_crop(_TURNS[orientation](cells), 64).astype(int)
    assert np.abs(images.decode_square(data, 64) - exact).max() <= 4


def test_damage_and_size_are_told_of_a_reduced_jpeg_too():
    data = _file(Image.fromarray(_scene(256, 256)), "JPEG")
    with pytest.raises(BadRecordError) as error:
        images.decode_square(data[: len(data) // 2], 32)
    assert error.value.reason == "corrupt picture"
    with pytest.raises(BadRecordError, match="256 x 256, 300 needed"):
        images.decode_square(data, 300)


def test_the_size_stands_in_the_beginning():
    data = _file(Image.fromarray(_picture(300, 200)), "JPEG", quality=95)
    assert images.picture_size(data[:2000]) == (200, 300)
    with pytest.raises(BadRecordError) as error:
        images.picture_size(data[:10])
    assert error.value.reason == "corrupt picture"


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_pillow_s_own_limit_is_the_same_reason(side):
    # Pillow warns above 89 M pixels and refuses above 179 M.
    header = bytearray(images.encode_png(_picture(2, 2)))
    header[16:24] = side.to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with pytest.raises(BadRecordError) as error:
        images.decode(bytes(header))
    assert error.value.reason == "picture too large"


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 64, 128])
def test_the_fast_box_average_is_the_exact_one(factor):
    # Averages with every remainder; noise alone would be near the middle.
    rng = np.random.default_rng(factor)
    low = rng.integers(0, 256, (256, 1, 3))
    noise = rng.integers(0, 256, (256, 384, 3))
    picture = np.minimum(np.maximum(noise, low), 255).astype(np.uint8)
    blocks = picture.reshape(256 // factor, factor, 384 // factor, factor, 3)
    exact = np.floor(blocks.mean((1, 3), dtype=np.float64) + 0.5)
    np.testing.assert_array_equal(images.box_downsample(picture, factor), exact)
