"""Stand-ins for text encoders: what is left of MiniLM, and a T5 that knows nothing."""

import jax
import numpy as np
import pytest

from imagen_jax.ablations.encoders import (
    CUT,
    RANDOM_T5,
    STAND_INS,
    embed,
    find_encoder,
)
from imagen_jax.ablations.table import ABLATIONS, with_encoders
from imagen_jax.ablations.wordings import read_wordings
from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.text.encoder import load_encoder
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights

TEXTS = ["a fox on a green background", "grapes"]


def load(name, folder):
    encoder, weights = find_encoder(name, "", folder)
    return load_encoder(
        encoder,
        16,
        weights=weights,
        find_weights=find_weights,
        open_weights=open_weights,
    )


def states(encoder):
    return np.asarray(encoder.encode(encoder.tokenize(TEXTS)).embed, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT)
def test_a_cut_encoder_is_the_first_layers_of_the_whole_one(tmp_path, name):
    cut, whole = load(name, tmp_path), load("minilm", tmp_path)
    config_layers = CUT[name]
    if config_layers:
        for left, all_layers in zip(
            jax.tree.leaves(cut.params["layers"]),
            jax.tree.leaves(whole.params["layers"]),
            strict=True,
        ):
            np.testing.assert_array_equal(left, all_layers[:config_layers])
    else:
        assert "layers" not in cut.params
    np.testing.assert_array_equal(cut.params["word"], whole.params["word"])
    assert (cut.weights_sha256 == whole.weights_sha256) == (config_layers == 6)
    assert np.allclose(states(cut), states(whole), atol=1e-5) == (config_layers == 6)


@pytest.mark.slow
def test_without_layers_a_word_is_blind_to_the_others(tmp_path):
    encoder = load("minilm_0_layers", tmp_path)
    two = encoder.tokenize(["a fox on a red background", "a fox on a blue background"])
    found = np.asarray(encoder.encode(two).embed)
    same = (two.ids[0] == two.ids[1]) & two.mask[0]
    assert 0 < same.sum() < two.mask[0].sum()
    np.testing.assert_array_equal(found[0][same], found[1][same])


@pytest.mark.slow
def test_a_random_t5_fills_a_store(tmp_path):
    first = load(RANDOM_T5, tmp_path / "a")
    assert first.width == 384
    assert first.weights_sha256 == load(RANDOM_T5, tmp_path / "b").weights_sha256
    found = states(first)
    assert np.isfinite(found).all()
    assert 0.5 < found[0].std() < 2  # its last norm
    encoder, weights = find_encoder(RANDOM_T5, "", tmp_path / "a")
    assert embed(encoder, weights, "synthetic:8:8", 16, tmp_path / "store") == 384
    store = EmbeddingStore(tmp_path / "store")
    assert store.manifest.encoder == RANDOM_T5


def test_every_held_out_caption_has_two_wordings_without_its_words():
    pairs = [pair for pair in openmoji.pairs("default") if pair.held_out]
    wordings = read_wordings(pairs)
    assert len({text for text, _ in wordings}) == 2 * len(pairs)
    for text, pair in wordings:
        assert pair.ground in text
        assert "background" not in text
        assert pair.concept not in text


def test_other_encoders_can_be_named(tmp_path):
    ablation = with_encoders(ABLATIONS["text"], ["minilm", "t5_small"])
    assert [arm.encoder for arm in ablation.arms] == ["minilm", "t5_small"]
    with pytest.raises(UserError, match="at least 2 different"):
        with_encoders(ABLATIONS["text"], ["minilm", "minilm"])
    with pytest.raises(UserError, match="goes with --only=text"):
        with_encoders(ABLATIONS["order"], ["minilm", "t5_small"])
    with pytest.raises(UserError, match="--encoders names 'bart'; they are: "):
        find_encoder("bart", "", tmp_path)
    assert find_encoder("t5_small", "DIR", tmp_path) == ("t5_small", "DIR")
    assert {arm.encoder for arm in ABLATIONS["text"].arms} == set(STAND_INS)
