import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import bert, minilm
from tests.text.oracle import check_equal, torch_states
from tests.text.tiny import load_tiny, make_tokens
from tests.text.tiny_bert import CONFIG, config_json, random_tensors

DEEPER = dataclasses.replace(
    CONFIG, width=32, num_layers=3, num_heads=2, mlp_width=56, max_positions=20
)


def encode(config, ids, mask, tensors=None):
    tensors = random_tensors(config) if tensors is None else tensors
    params = bert.params_from_tensors(tensors, config)
    return np.asarray(bert.hidden_states(params, ids, mask, config))


@pytest.mark.oracle
@pytest.mark.parametrize("config", [CONFIG, DEEPER], ids=["tiny", "deeper"])
def test_equals_transformers(tmp_path, config):
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel(transformers.BertConfig(**config_json(config)))
    check_equal(bert, model, tmp_path, n=config.max_positions)


@pytest.mark.oracle
def test_reads_the_bert_of_a_pretraining_checkpoint(tmp_path):
    transformers = pytest.importorskip("transformers")
    whole = transformers.BertForPreTraining(transformers.BertConfig(**config_json()))
    check_equal(bert, whole, tmp_path, text_model=whole.bert, n=10)


def test_names_of_old_checkpoints_on_the_hub():
    old = {
        "bert."
        + name.replace("Norm.weight", "Norm.gamma").replace(
            "Norm.bias", "Norm.beta"
        ): tensor
        for name, tensor in random_tensors().items()
    }
    old["cls.predictions.transform.LayerNorm.gamma"] = np.zeros(3, np.float32)
    assert "bert.encoder.layer.1.output.LayerNorm.beta" in old
    ids, mask = make_tokens(CONFIG.vocab_size)
    np.testing.assert_array_equal(
        encode(CONFIG, ids, mask, old), encode(CONFIG, ids, mask)
    )


@pytest.mark.oracle
@pytest.mark.slow
def test_real_minilm_equals_transformers():
    transformers = pytest.importorskip("transformers")
    try:
        folder = minilm.fetch()
    except UserError as error:
        pytest.skip(f"the weights cannot be had here: {error}")
    encoder = load_tiny(folder, 32, "minilm")
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    tokens = encoder.tokenize(
        ["a photo of a red fox", "an octopus!", "three hens on the moon"]
    )
    embed, mask = map(np.asarray, encoder.encode(tokens))
    expected = torch_states(model.eval(), tokens.ids, tokens.mask, layer=-1)
    assert mask.sum() > 15
    assert np.abs(embed - expected)[mask].max() < 1e-5


def test_states_are_zero_outside_the_mask_and_layer_normed_inside():
    ids, mask = make_tokens(CONFIG.vocab_size)
    params = bert.params_from_tensors(random_tensors(), CONFIG)
    last = params["layers"]["mlp_norm"]
    states = encode(CONFIG, ids, mask)
    valid = np.asarray(mask)
    assert not states[~valid].any()
    normed = (states[valid] - last["bias"][-1]) / last["scale"][-1]
    np.testing.assert_allclose(normed.mean(axis=-1), 0, atol=1e-4)
    np.testing.assert_allclose(normed.std(axis=-1), 1, atol=1e-4)


def test_a_row_depends_on_no_other_row():
    ids, mask = make_tokens(CONFIG.vocab_size)
    others = ids.at[1:].set((ids[1:] + 1) % CONFIG.vocab_size)
    same, changed = encode(CONFIG, ids, mask), encode(CONFIG, others, mask)
    np.testing.assert_array_equal(same[0], changed[0])
    assert np.abs(same[1] - changed[1]).max() > 0.1


def test_order_of_words_matters():
    ids = jnp.array([[2, 4, 5, 3], [2, 5, 4, 3]])
    states = encode(CONFIG, ids, jnp.ones((2, 4), bool))
    assert np.abs(states[0, 1] - states[1, 2]).max() > 0.1  # the same word, moved


def test_bfloat16_parameters_compute_in_bfloat16():
    ids, mask = make_tokens(CONFIG.vocab_size)
    params = bert.params_from_tensors(random_tensors(), CONFIG)
    exact = encode(CONFIG, ids, mask)
    rounded = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    states = bert.hidden_states(rounded, ids, mask, CONFIG)
    assert states.dtype == jnp.bfloat16
    assert 1e-4 < np.abs(states.astype(jnp.float32) - exact).mean() < 0.05


def test_reads_a_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_json(DEEPER)))
    assert bert.read_config(path) == DEEPER


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 5}, "heads must divide the width"),
    ],
)
def test_refuses_another_network(tmp_path, changes, text):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_json() | changes))
    with pytest.raises(UserError, match=text):
        bert.read_config(path)


@pytest.mark.parametrize(
    ("name", "replacement", "text"),
    [
        ("encoder.layer.1.output.dense.bias", None, "no tensor encoder.layer.1.output"),
        ("embeddings.word_embeddings.weight", np.zeros((3, 24)), r"shape \(3, 24\)"),
    ],
)
def test_refuses_weights_that_do_not_fit(name, replacement, text):
    tensors = random_tensors() | {name: replacement}
    if replacement is None:
        del tensors[name]
    with pytest.raises(UserError, match=text):
        bert.params_from_tensors(tensors, CONFIG)
