"""Traps of the text encoder and the embedding job (imagen_jax/text, embedding)."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.embedding.job import fill_store
from imagen_jax.errors import UserError
from imagen_jax.text import bert
from tests.text import tiny_t5
from tests.text.tiny import load_tiny
from tests.text.tiny_bert import CONFIG, config_json, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_tiny(folder)


def test_t19_padding_changes_no_valid_token(folder, encoder):
    """T19: pads must be masked, whatever stands in them and however many they are.

    Mutation: in text.layers.attention leave out the line that masks the logits.
    """
    caption = ["the red fox"]
    exact = load_tiny(folder, 5)  # no pad at all
    tokens = encoder.tokenize(caption)
    garbage = tokens._replace(ids=np.where(tokens.mask, tokens.ids, 7))
    expected = np.asarray(exact.encode(exact.tokenize(caption)).embed)[0]
    longer = load_tiny(folder, 16)
    padded = [encoder.encode(tokens), encoder.encode(garbage)]
    padded.append(longer.encode(longer.tokenize(caption)))
    for embed, mask in padded:
        assert np.asarray(mask).sum() == 5
        np.testing.assert_allclose(embed[0, :5], expected, rtol=0, atol=1e-5)
        assert not np.asarray(embed)[0, 5:].any()


def test_t22_the_sequence_comes_out_not_a_token(encoder):
    """T22: position -1 of a padded caption is a pad; nothing may be pooled from it.

    Mutation: end bert.hidden_states with x[:, -1:] (or a mean) broadcast over n.
    """
    embed, _ = encoder.encode(encoder.tokenize(["the red fox"]))
    states = np.asarray(embed)[0]
    assert states.shape == (8, 24)
    assert not states[-1].any()
    for i in range(5):
        for j in range(i):
            assert np.abs(states[i] - states[j]).max() > 0.1


def test_t23_a_row_without_valid_tokens_is_zero_not_nan(encoder):
    """T23: softmax over no valid key.

    Mutation: in text.layers.attention mask with -inf and have `masked` pass x on.
    """
    tokens = encoder.tokenize(["a fox", "the red fox"])
    tokens.mask[1] = False
    embed, _ = encoder.encode(tokens)
    assert np.isfinite(embed).all()
    assert not np.asarray(embed)[1].any()
    assert np.asarray(embed)[0].any()


def test_t25_the_null_text_is_not_the_encoder_of_an_empty_string(encoder, tmp_path):
    """T25: a "zero" embedding that is really the encoder's output for "".

    Mutation: in text.tokenizer_rows let "" keep its special tokens.
    """
    assert fill_store(encoder, ["", "a fox", ""], tmp_path).num_captions == 1
    store = EmbeddingStore(tmp_path)
    assert store.manifest.num_captions == 1
    for embed, mask in (store.lookup([""]), encoder.encode(encoder.tokenize([""]))):
        assert not np.asarray(embed).any()
        assert np.asarray(mask).tolist() == [[True] + [False] * 7]


@pytest.mark.parametrize("key", sorted(set(config_json()) - {"model_type"}))
def test_t26_no_setting_of_the_encoder_has_a_second_default(tmp_path, key):
    """T26: two places with different defaults for one setting.

    Mutation: give a field of BertConfig a default, or read a key with `.get(key, 12)`.
    """
    fields = dataclasses.fields(bert.BertConfig)
    assert all(field.default is dataclasses.MISSING for field in fields)
    assert dataclasses.asdict(CONFIG).keys() == {field.name for field in fields}
    keys = config_json()
    del keys[key]
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with pytest.raises(UserError, match=key):
        bert.read_config(tmp_path / "config.json")


def test_t27_bfloat16_does_not_overflow_and_float16_is_refused(tmp_path):
    """T27: T5 overflows in float16, and embeddings of two precisions do not mix.

    Mutation: let "float16" into text.encoder.DTYPES, or leave the dtype out of a
    store's plan.
    """
    folder = tiny_t5.write_folder(tmp_path / "t5")
    with pytest.raises(UserError, match="overflows in float16"):
        load_tiny(folder, dtype="float16")
    encoder = load_tiny(folder, dtype="bfloat16")
    large = jax.tree.map(lambda leaf: leaf * 16, encoder.params)
    ids, mask = map(jnp.asarray, encoder.tokenize(["the red fox"]))
    embed, _ = encoder.states_fn(large, ids, mask)
    assert np.isfinite(np.asarray(embed, np.float32)).all()
    fill_store(encoder, ["a fox"], tmp_path / "store")
    with pytest.raises(UserError, match="int8"):
        fill_store(encoder, ["a fox"], tmp_path / "store", dtype="int8")


def test_t29_captions_are_embedded_and_stored_uncleaned(encoder, tmp_path):
    """T29: cleaning applied on one side only, which destroys quoted text.

    Mutation: caption.lower() or .strip() anywhere in embedding/ or in
    text.tokenizer_rows; or a default of text.cleaning other than "none".
    """
    captions = ["a fox", "A Fox", "  a fox ", 'a fox: "Hello, WORLD!" <b>&amp;</b>']
    seen = []
    tokenize = encoder.tokenize

    class Spy:
        num_truncated = 0

        def __call__(self, batch):
            seen.extend(batch)
            return tokenize(batch)

    fill_store(encoder._replace(tokenize=Spy()), captions, tmp_path, batch_size=4)
    assert sorted(seen) == sorted(captions)
    store = EmbeddingStore(tmp_path)
    assert store.manifest.cleaning == "none"
    assert store.manifest.num_captions == 4
    embed, _ = store.lookup(captions)
    assert np.abs((embed[0] - embed[1]).astype(np.float32)).max() > 0.1
    # The library gets the caption as it is: this vocabulary has no "Fox".
    ids = tokenize(["a Fox"]).ids
    assert ids[0, :4].tolist() == [2, 4, 1, 3]
