"""The three scales of CLIP score, with a CLIP whose vectors are known."""

import numpy as np
import pytest

from imagen_jax.features.clip import Clip
from imagen_jax.metrics.clip_score import clip_scores

DEGREES = {"a": 0, "east": 0, "north-east": 45, "north": 90, "west": 180}


def angle(text):
    return np.radians(DEGREES[text.split()[-1]])


def unit(angle):
    return [np.cos(angle), np.sin(angle)]


@pytest.fixture
def clip():
    """A picture has the angle of its first pixel, a text that of its last word."""
    seen = []

    def embed_texts(texts):
        seen.append(list(texts))
        return np.array([unit(angle(text)) for text in texts], np.float32)

    def embed_pictures(batch):
        return np.array([unit(x[0, 0, 0]) for x in batch], np.float32)

    def prepare(picture):
        return np.float32(np.pi / 180) * picture.astype(np.float32)

    clip = Clip({}, prepare, embed_pictures, embed_texts, lambda: 0, 4)
    return clip, seen


def picture(degrees):
    return np.full((2, 2, 3), degrees, np.uint8)


def test_cosines_and_scales(clip):
    pictures = [picture(d) for d in (0, 90, 45, 0, 180)]
    texts = ["east", "east", "north-east", "west", "north"]
    scores = clip_scores(clip[0], pictures, texts, batch_size=1)
    expected = np.array([1, 0, 1, -1, 0], np.float32)
    np.testing.assert_allclose(scores.cosine, expected, atol=1e-6)
    np.testing.assert_allclose(scores.times_100, 100 * expected, atol=1e-4)
    np.testing.assert_allclose(scores.clipscore, [2.5, 0, 2.5, 0, 0], atol=1e-5)


def test_the_prefix_goes_before_each_distinct_text_once(clip):
    model, seen = clip
    clip_scores(model, [picture(0)] * 3, ["east", "west", "east"], "A photo of ")
    sent = [text for batch in seen for text in batch]
    assert sent[:2] == ["A photo of east", "A photo of west"]
    assert set(sent[2:]) == {"a"}
    assert {len(batch) for batch in seen} == {32}


@pytest.mark.parametrize("num", [1, 3])
def test_numbers_that_differ(clip, num):
    with pytest.raises(ValueError, match="zip"):
        clip_scores(clip[0], [picture(0)] * num, ["east", "west"])


def test_no_pictures(clip):
    assert clip_scores(clip[0], [], []).cosine.shape == (0,)
