import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.data.store_records import decode_record, encode_record


@given(st.text(), st.integers(0, 5), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_bfloat16_round_trip(caption, num_tokens, width):
    embed = np.arange(num_tokens * width).astype(ml_dtypes.bfloat16)
    embed = embed.reshape(num_tokens, width)
    decoded_caption, decoded = decode_record(encode_record(caption, embed), width)
    assert decoded_caption == caption
    np.testing.assert_array_equal(decoded, embed)


@given(st.text(), st.integers(1, 5), st.floats(-30, 30))
@settings(max_examples=40, deadline=None)
def test_int8_is_within_half_a_step_of_each_token(caption, num_tokens, exponent):
    rng = np.random.default_rng(num_tokens)
    embed = rng.normal(size=(num_tokens, 64)) * 2.0**exponent
    embed = embed.astype(ml_dtypes.bfloat16)
    decoded_caption, decoded = decode_record(
        encode_record(caption, embed, "int8"), 64, "int8"
    )
    assert decoded_caption == caption
    assert decoded.dtype == ml_dtypes.bfloat16
    wide, wide_decoded = embed.astype(np.float32), decoded.astype(np.float32)
    step = np.abs(wide).max(axis=1, keepdims=True) / 127
    rounding = np.abs(wide) * 2.0**-8  # back to bfloat16
    assert (np.abs(wide_decoded - wide) <= 0.501 * step + rounding).all()


def test_int8_keeps_a_token_of_zeros():
    embed = np.zeros((1, 4), ml_dtypes.bfloat16)
    _, decoded = decode_record(encode_record("<br>", embed, "int8"), 4, "int8")
    np.testing.assert_array_equal(decoded, embed)


def test_int8_halves_the_bytes_at_the_width_of_t5_xxl():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 4096))
    values[:10, :4] *= 30  # some dimensions stand out, as in real encoders
    embed = values.astype(ml_dtypes.bfloat16)
    whole, small = encode_record("a", embed), encode_record("a", embed, "int8")
    assert len(small) <= 0.52 * len(whole)
    a = embed.astype(np.float64)
    b = decode_record(small, 4096, "int8")[1].astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / norms
    assert cosine[10:].min() >= 0.9999
    assert cosine[:10].min() >= 0.99  # stated in the README: outliers cost precision


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize(
    "change", [lambda r: r[:-1], lambda r: r + b"\0", lambda r: b""]
)
def test_a_record_of_another_size_is_refused(dtype, change):
    record = encode_record("a", np.ones((2, 4), ml_dtypes.bfloat16), dtype)
    with pytest.raises(ValueError, match="a record of"):
        decode_record(change(record), 4, dtype)
