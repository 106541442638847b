import numpy as np
import pytest

from imagen_jax.data.sources import emoji, openmoji
from imagen_jax.errors import UserError
from tests.data.sources.npm_packages import serve


@pytest.fixture(autouse=True)
def registry(monkeypatch, tmp_path):
    serve(monkeypatch, tmp_path)


def test_the_drawings_of_an_icon_set_without_skin_tones():
    drawings = emoji.load_drawings("noto")
    assert [*drawings] == ["flag of Togo", "fox", "one", "owl"]
    fox = np.asarray(drawings["fox"](10))
    assert fox.shape == (10, 10, 4)
    assert (fox == (255, 0, 0, 255)).all()


def test_the_renders_without_skin_tones():
    drawings = emoji.load_drawings("fluent-3d")
    assert [*drawings] == ["flag of England", "flag of Togo", "fox"]
    fox = np.asarray(drawings["fox"](8))
    assert (fox[:, :3] == (255, 0, 0, 255)).all()
    assert (fox[:, 5:, 3] == 0).all()


def test_openmoji_needs_no_package():
    drawings = emoji.load_drawings("openmoji")
    assert len(drawings) > 1500
    expected = openmoji.render_object("fox", 24)
    np.testing.assert_array_equal(np.asarray(drawings["fox"](24)), expected)


def test_a_picture_is_its_caption_s():
    drawings = emoji.load_drawings("noto")
    grounds, places = set(), set()
    for variant in range(12):
        picture, caption = emoji.compose(drawings["fox"], "fox", "noto", variant, 40)
        words = caption.split()
        assert " ".join(words[:3]) == "a fox on"
        assert caption.endswith(" background, in the style of Noto Emoji")
        ground = openmoji.GROUNDS[words[4]]
        fox = (picture == (255, 0, 0)).all(-1)
        rows, columns = np.flatnonzero(fox.any(1)), np.flatnonzero(fox.any(0))
        assert len(rows) == len(columns)
        assert fox[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        low, high = openmoji.SCALES
        assert round(low * 40) <= len(rows) <= round(high * 40)
        assert (picture[~fox] == ground).all()
        grounds.add(ground)
        places.add((rows[0], columns[0]))
    assert len(grounds) > 3
    assert len(places) > 6
    again, _ = emoji.compose(drawings["fox"], "fox", "noto", 11, 40)
    np.testing.assert_array_equal(again, picture)


def test_an_unknown_style():
    with pytest.raises(UserError, match="no emoji style 'cubist'; choose of openmoji,"):
        emoji.load_drawings("cubist")
