import numpy as np
import pytest
from PIL import Image, ImageFont

from imagen_jax.evaluation.grid import GAP, PAPER, wrap, write_grid

RED, BLUE = (200, 30, 40), (30, 60, 200)


def plain(colour: tuple[int, int, int], size: int) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def read(path) -> np.ndarray:
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet)


def test_pictures_stand_in_their_cells(tmp_path):
    path = tmp_path / "made" / "grid.png"
    images = [plain(RED, 64), plain(BLUE, 256), plain(RED, 32)]
    write_grid(path, images, ["", "", ""], columns=2, cell=128)
    sheet = read(path)
    assert sheet.shape == (3 * GAP + 2 * 128, 3 * GAP + 2 * 128, 3)
    step = GAP + 128
    assert (sheet[GAP : GAP + 128, GAP : GAP + 128] == RED).all()
    assert (sheet[GAP : GAP + 128, GAP + step : GAP + step + 128] == BLUE).all()
    assert (sheet[GAP + step : GAP + step + 128, GAP : GAP + 128] == RED).all()
    assert (sheet[GAP + step :, GAP + step :] == PAPER).all()


def test_texts_add_ink_and_only_where_they_belong(tmp_path):
    images = [plain(RED, 64)] * 2
    caption = "a birthday cake on a purple background"
    sheets = {}
    texts = {"bare": {}, "title": {"title": "Step 100"}, "footer": {"footer": "CC BY"}}
    for name, kwargs in texts.items():
        write_grid(tmp_path / "g.png", images, ["", ""], 2, cell=96, **kwargs)
        sheets[name] = read(tmp_path / "g.png")
    write_grid(tmp_path / "g.png", images, [caption, ""], 2, cell=96)
    captioned = read(tmp_path / "g.png")
    bare = sheets["bare"]
    num_rows = len(bare)
    np.testing.assert_array_equal(sheets["title"][-num_rows:], bare)
    np.testing.assert_array_equal(sheets["footer"][: num_rows - GAP], bare[:-GAP])
    assert (sheets["title"][:-num_rows] != PAPER).any()
    assert (sheets["footer"][num_rows:] != PAPER).any()
    below = captioned[GAP + 96 :]
    assert (below[:, GAP : GAP + 96] != PAPER).any()
    assert (below[:, GAP + 96 :] == PAPER).all()  # nothing runs into the next cell
    assert (below[-GAP:] == PAPER).all()


def test_wrapping_keeps_every_word_within_the_width():
    font = ImageFont.load_default(12)
    text = "a jack-o'-lantern on a yellow background"
    lines = wrap(text, font, 100)
    assert " ".join(lines) == text
    assert len(lines) > 1
    assert max(font.getlength(line) for line in lines) <= 100
    assert wrap("incomprehensibilities", font, 20) == ["incomprehensibilities"]
    assert wrap("", font, 20) == []


@pytest.mark.parametrize(
    ("num_images", "num_captions", "columns"), [(0, 0, 1), (2, 1, 1), (1, 1, 0)]
)
def test_what_makes_no_grid(tmp_path, num_images, num_captions, columns):
    images = [plain(RED, 8)] * num_images
    with pytest.raises(ValueError, match=f"{num_images} images"):
        write_grid(tmp_path / "grid.png", images, ["x"] * num_captions, columns)
    assert not list(tmp_path.iterdir())
