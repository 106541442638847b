import hashlib

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import bert
from imagen_jax.text.encoder import encode_captions, load_bert, load_encoder
from imagen_jax.weights.safetensors import read_safetensors
from tests.text.tiny_bert import write_folder

CAPTIONS = ["a fox", "the owl on the cat", "red", "a blue cat on a fox", "", "owl owl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_bert("tiny", folder, 8, read_safetensors)


def test_describes_itself_from_its_files(encoder, folder):
    weights = (folder / "model.safetensors").read_bytes()
    tokenizer = (folder / "tokenizer.json").read_bytes()
    assert encoder.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert encoder.tokenizer.endswith(hashlib.sha256(tokenizer).hexdigest())
    assert (encoder.name, encoder.width, encoder.max_length) == ("tiny", 24, 8)


def test_a_caption_does_not_depend_on_its_batch(encoder):
    together = encoder.encode(encoder.tokenize(CAPTIONS)).embed
    for i, caption in enumerate(CAPTIONS):
        alone = encoder.encode(encoder.tokenize([caption])).embed
        np.testing.assert_allclose(alone[0], together[i], rtol=0, atol=1e-5)


def test_batches_of_many_sizes_share_few_compiles(folder, monkeypatch):
    traces = []
    original = bert.hidden_states

    def counted(params, ids, mask, config):
        traces.append(ids.shape)
        return original(params, ids, mask, config)

    monkeypatch.setattr(bert, "hidden_states", counted)
    encoder = load_bert("tiny", folder, 8, read_safetensors)
    for size in (3, 4, 3):
        tokens = encoder.tokenize(CAPTIONS[:size])
        assert encoder.encode(tokens).embed.shape == (size, 8, 24)
        assert encoder.encode(tokens).mask.shape == (size, 8)
    assert traces == [(4, 8)]
    list(encode_captions(encoder, CAPTIONS[:5], batch_size=4))  # 4 and 1
    assert traces == [(4, 8)]


def test_encode_captions_yields_valid_tokens_in_order(encoder):
    embeddings = list(encode_captions(encoder, iter(CAPTIONS), batch_size=4))
    tokens = encoder.tokenize(CAPTIONS)
    expected = np.asarray(encoder.encode(tokens).embed)
    assert [caption for caption, _ in embeddings] == CAPTIONS
    for (_, embed), states, mask in zip(embeddings, expected, tokens.mask, strict=True):
        assert embed.dtype == ml_dtypes.bfloat16
        assert embed.shape == (mask.sum(), 24)
        np.testing.assert_allclose(
            embed.astype(np.float32), states[mask], rtol=2**-8, atol=1e-5
        )


def test_refuses_an_unknown_name():
    with pytest.raises(UserError, match=r"no text encoder 't6'; known: .*minilm"):
        load_encoder("t6", 32, read_safetensors)


def test_refuses_more_tokens_than_positions(folder):
    with pytest.raises(UserError, match="max_length is 17; tiny has 16 positions"):
        load_bert("tiny", folder, 17, read_safetensors)
