"""Requests: what is read, and that what is wrong is one sentence naming the field."""

import base64

import numpy as np
import pytest

from imagen_jax.app.requests import Limits, read_request
from imagen_jax.data.images import encode_png
from imagen_jax.errors import UserError

LIMITS = Limits(num_stages=2, steps=(10, 25), num_pictures=3, num_letters=20)
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
MASK = np.zeros((6, 6, 3), np.uint8)
MASK[:2] = 255


def encoded(picture):
    return base64.b64encode(encode_png(picture)).decode()


def test_a_prompt_alone_is_a_request():
    request = read_request({"prompt": "a fox"}, LIMITS)
    assert request == ("a fox", "", (0,), {}, None)


def test_all_fields_are_read():
    fields = {
        "prompt": "",
        "negative": "blue",
        "seeds": [1, 2**32 - 1],
        "guidance": [3, None],
        "steps": 25,
        "aug_level": 0.5,
    }
    request = read_request(fields, LIMITS)
    assert request.options == {"guidance": [3, None], "steps": 25, "aug_level": 0.5}
    assert (request.negative, request.seeds) == ("blue", (1, 2**32 - 1))
    assert read_request({**fields, "steps": None, "seeds": 7}, LIMITS).seeds == (7,)


def test_a_picture_and_a_mask_make_an_edit():
    fields = {"prompt": "", "picture": encoded(PICTURE), "mask": encoded(MASK)}
    editing = read_request({**fields, "strength": 0.25}, LIMITS).editing
    assert editing is not None
    np.testing.assert_array_equal(editing.picture, PICTURE)
    np.testing.assert_array_equal(editing.mask, MASK[..., 0] > 0)
    assert editing.strength == 0.25
    arrays = read_request({"prompt": "", "picture": PICTURE}, LIMITS).editing
    assert arrays is not None
    assert (arrays.mask, arrays.strength) == (None, 1.0)


def test_another_seed_makes_variations():
    fields = {"prompt": "", "seeds": [3, 3, 3], "other_seed": 8}
    editing = read_request(fields, LIMITS).editing
    assert editing is not None
    assert editing.mix is not None
    others, shares = editing.mix
    assert others.tolist() == [8, 8, 8]
    assert shares.tolist() == [0.0, 0.5, 1.0]


BAD_FIELDS = [
    ({"prompt": 5}, "prompt is 5; it must be a text"),
    ({"prompt": None}, "prompt is None"),
    ({"prompt": "\ud800"}, "prompt is '\\ud800'"),
    ({"prompt": "x" * 21}, "prompt has 21 letters; it may have 20 at most"),
    ({"negative": ["a"]}, "negative is ['a']"),
    ({"negative": "x" * 21}, "negative has 21 letters"),
    ({"seeds": []}, "seeds has 0 entries"),
    ({"seeds": [1, 2, 3, 4]}, "seeds has 4 entries; a request draws 1 to 3"),
    ({"seeds": -1}, "seeds is -1"),
    ({"seeds": [2**32]}, "seeds is 4294967296"),
    ({"seeds": 1.5}, "seeds is 1.5"),
    ({"seeds": True}, "seeds is True"),
    ({"seeds": "1"}, "seeds is '1'"),
    ({"guidance": "much"}, "guidance is 'much'"),
    ({"guidance": -1}, "guidance is -1"),
    ({"guidance": float("nan")}, "guidance is nan"),
    ({"guidance": 10**400}, "guidance is 1000"),
    ({"guidance": [1, 2, 3]}, "guidance has 3 values; give one, or 2"),
    ({"guidance": [1, "x"]}, "guidance is 'x'"),
    ({"steps": 11}, "steps is 11; it must be 10 or 25"),
    ({"steps": 10.0}, "steps is 10.0"),
    ({"steps": [10]}, "steps has 1 values"),
    ({"aug_level": 2}, "aug_level is 2"),
    ({"aug_level": True}, "aug_level is True"),
    ({"picture": 3}, "picture is 3"),
    ({"picture": "%%"}, "picture cannot be read"),
    ({"picture": base64.b64encode(b"GIF").decode()}, "picture cannot be read"),
    ({"picture": "é"}, "picture cannot be read"),
    ({"picture": PICTURE, "mask": "AAAA"}, "mask cannot be read"),
    ({"picture": PICTURE, "mask": MASK[:4]}, "the mask has 6 x 4 pixels"),
    ({"picture": PICTURE, "mask": MASK * 0}, "the mask is black everywhere"),
    ({"mask": MASK}, "mask given and no picture; give the picture too"),
    ({"mask": MASK, "strength": 0.5}, "mask and strength given and no picture"),
    ({"strength": 1.0}, "strength given and no picture"),
    ({"picture": PICTURE, "strength": 1.5}, "strength is 1.5"),
    ({"picture": PICTURE, "strength": float("nan")}, "strength is nan"),
    ({"other_seed": 3}, "other_seed is given and seeds has 1 entry"),
    ({"other_seed": -3, "seeds": [1, 1]}, "other_seed is -3"),
    ({"sampler": "ddim"}, "there is no field 'sampler'; they are prompt, "),
    ({"x" * 500: 1}, "there is no field 'xxx"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS)
def test_a_wrong_field_is_named_in_one_sentence(fields, message):
    with pytest.raises(UserError) as raised:
        read_request({"prompt": "a fox", **fields}, LIMITS)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fields", [[], "a fox", 3, None])
def test_what_is_no_object_is_refused(fields):
    with pytest.raises(UserError, match="it must be an object such as"):
        read_request(fields, LIMITS)


def test_a_prompt_is_needed():
    with pytest.raises(UserError, match="the field prompt is missing"):
        read_request({"seeds": 1}, LIMITS)
