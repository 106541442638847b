import ml_dtypes
import numpy as np
import pytest

from imagen_jax.data.store_format import caption_hash
from imagen_jax.embedding.encoding import encode_captions, length_step
from tests.embedding.fake_encoder import expected, make_encoder

SHORT = [f"word{i} and more" for i in range(7)]
LONG = [f"word{i} " * 20 for i in range(7)]
CAPTIONS = [caption for pair in zip(LONG, SHORT, strict=True) for caption in pair]


def watched(encoder):
    """Returns (the encoder, the list that its calls' tokens go to)."""
    calls = []
    encode = encoder.encode

    def watching(tokens):
        calls.append(tokens)
        return encode(tokens)

    return encoder._replace(encode=watching), calls


def test_yields_every_caption_with_its_valid_tokens():
    encoder = make_encoder(max_length=64)
    embeddings = dict(encode_captions(encoder, CAPTIONS, batch_size=4))
    assert embeddings.keys() == set(CAPTIONS)
    embed, mask = expected(CAPTIONS, max_length=64)
    for caption, wanted, valid in zip(CAPTIONS, embed, mask, strict=True):
        assert embeddings[caption].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(embeddings[caption], wanted[valid])


@pytest.mark.parametrize(
    ("step", "short", "long"), [(16, 16, 32), (8, 8, 24), (1, 3, 20)]
)
def test_batches_are_cut_to_their_longest_and_filled_up(step, short, long):
    encoder, calls = watched(make_encoder(max_length=30))
    list(encode_captions(encoder, CAPTIONS, batch_size=4, step=step))
    # 7 short captions: a batch of their own, one with a long one; then long ones.
    long = min(long, 30)
    assert [tokens.ids.shape for tokens in calls] == [(4, short), *[(4, long)] * 3]
    assert [int(tokens.mask.any(axis=1).sum()) for tokens in calls] == [4, 4, 4, 2]


def test_more_captions_are_worth_more_compiles():
    steps = [length_step(10**power, 128, 64) for power in range(2, 8)]
    assert steps == [16, 16, 16, 4, 1, 1]
    assert length_step(10**5, 128, 16) == 1  # more batches
    assert length_step(10**5, 16, 64) == 1  # fewer lengths


def test_the_order_depends_on_the_captions_alone():
    encoder = make_encoder(max_length=64)
    orders = [
        [caption for caption, _ in encode_captions(encoder, captions, batch_size)]
        for captions, batch_size in ((CAPTIONS, 4), (CAPTIONS[::-1], 3))
    ]
    assert orders[0] == orders[1]
    short, long = sorted(SHORT, key=caption_hash), sorted(LONG, key=caption_hash)
    assert orders[0] == short + long


def test_the_next_batch_is_begun_before_one_is_handed_out():
    encoder, calls = watched(make_encoder(max_length=64))
    embeddings = encode_captions(encoder, CAPTIONS, batch_size=4)
    next(embeddings)
    assert len(calls) == 2


def test_a_caption_without_tokens_is_one_zero_token():
    ((caption, embed),) = encode_captions(make_encoder(), ["  "], batch_size=2)
    assert caption == "  "
    np.testing.assert_array_equal(embed, np.zeros((1, 8), ml_dtypes.bfloat16))


def test_no_captions_give_nothing():
    assert list(encode_captions(make_encoder(), [])) == []
