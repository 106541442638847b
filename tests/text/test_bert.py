import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import bert, minilm
from imagen_jax.text.encoder import load_encoder
from imagen_jax.weights.safetensors import read_safetensors
from tests.text.tiny_bert import CONFIG, config_json, random_tensors

DEEPER = dataclasses.replace(
    CONFIG, width=32, num_layers=3, num_heads=2, mlp_width=56, max_positions=20
)


def make_tokens(config, rows=3, n=10):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, config.vocab_size, (rows, n)).astype(np.int32)
    lengths = np.array([n, 4, 1])[:rows]
    return jnp.asarray(ids), jnp.asarray(np.arange(n) < lengths[:, None])


def encode(config, ids, mask):
    params = bert.params_from_tensors(random_tensors(config), config)
    params = jax.tree.map(jnp.asarray, params)
    return np.asarray(bert.hidden_states(params, ids, mask, config))


@pytest.mark.oracle
@pytest.mark.parametrize("config", [CONFIG, DEEPER], ids=["tiny", "deeper"])
def test_equals_transformers(config):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel(
        transformers.BertConfig(**config_json(config)), add_pooling_layer=False
    ).eval()
    tensors = random_tensors(config)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    ids, mask = make_tokens(config)
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(np.array(ids)).long(),
            attention_mask=torch.from_numpy(np.array(mask)).long(),
        ).last_hidden_state.numpy()
    valid = np.asarray(mask)
    np.testing.assert_allclose(
        encode(config, ids, mask)[valid], expected[valid], rtol=0, atol=1e-5
    )


@pytest.mark.oracle
@pytest.mark.slow
def test_real_minilm_equals_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    try:
        folder = minilm.fetch()
    except UserError as error:
        pytest.skip(str(error))
    encoder = load_encoder("minilm", 32, read_safetensors)
    tokens = encoder.tokenize(["a fox on a red background", "two owls", ""])
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(tokens.ids).long(),
            attention_mask=torch.from_numpy(tokens.mask).long(),
        ).last_hidden_state.numpy()
    embed = np.asarray(encoder.encode(tokens).embed)
    difference = np.abs(embed - expected)[tokens.mask].max()
    assert difference < 1e-5
    assert tokens.mask.sum(axis=1).tolist() == [8, 4, 2]


def test_states_are_zero_outside_the_mask_and_layer_normed_inside():
    ids, mask = make_tokens(CONFIG)
    params = bert.params_from_tensors(random_tensors(), CONFIG)
    last = params["layers"]["mlp_norm"]
    states = encode(CONFIG, ids, mask)
    valid = np.asarray(mask)
    assert not states[~valid].any()
    normed = (states[valid] - last["bias"][-1]) / last["scale"][-1]
    np.testing.assert_allclose(normed.mean(axis=-1), 0, atol=1e-4)
    np.testing.assert_allclose(normed.std(axis=-1), 1, atol=1e-4)


def test_a_row_depends_on_no_other_row():
    ids, mask = make_tokens(CONFIG)
    others = ids.at[1:].set((ids[1:] + 1) % CONFIG.vocab_size)
    same, changed = encode(CONFIG, ids, mask), encode(CONFIG, others, mask)
    np.testing.assert_array_equal(same[0], changed[0])
    assert np.abs(same[1] - changed[1]).max() > 0.1


def test_order_of_words_matters():
    ids = jnp.array([[2, 4, 5, 3], [2, 5, 4, 3]])
    states = encode(CONFIG, ids, jnp.ones((2, 4), bool))
    assert np.abs(states[0, 1] - states[1, 2]).max() > 0.1  # the same word, moved


def test_bfloat16_parameters_compute_in_bfloat16():
    ids, mask = make_tokens(CONFIG)
    params = bert.params_from_tensors(random_tensors(), CONFIG)
    exact = encode(CONFIG, ids, mask)
    rounded = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    states = bert.hidden_states(rounded, ids, mask, CONFIG)
    assert states.dtype == jnp.bfloat16
    assert 1e-4 < np.abs(states.astype(jnp.float32) - exact).mean() < 0.05


def test_products_are_float32_on_every_backend():
    ids, mask = make_tokens(CONFIG)
    params = bert.params_from_tensors(random_tensors(), CONFIG)
    program = jax.make_jaxpr(bert.hidden_states, static_argnums=3)(
        params, ids, mask, CONFIG
    )
    assert str(program).count("dot_general") == 8  # 6 dense, q k, weights v
    assert "precision=None" not in str(program)
    assert str(program).count("Precision.HIGHEST") >= 8


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
