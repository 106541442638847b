import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import clip
from tests.text.oracle import check_equal
from tests.text.tiny import make_tokens
from tests.text.tiny_clip import CONFIG, config_json, random_tensors


def encode(ids, mask, tensors=None, config=CONFIG):
    tensors = random_tensors() if tensors is None else tensors
    params = clip.params_from_tensors(tensors, config)
    return np.asarray(clip.hidden_states(params, ids, mask, config))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"width": 32, "num_heads": 2, "num_layers": 5, "mlp_width": 48},
        {"activation": "gelu", "num_layers": 2},
    ],
    ids=["tiny", "deeper", "exact gelu"],
)
def test_penultimate_layer_equals_transformers(tmp_path, changes):
    transformers = pytest.importorskip("transformers")
    keys = config_json(dataclasses.replace(CONFIG, **changes))
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**keys))
    check_equal(clip, model, tmp_path, layer=-2)


@pytest.mark.oracle
def test_reads_the_text_encoder_of_a_whole_clip(tmp_path):
    transformers = pytest.importorskip("transformers")
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    }
    config = transformers.CLIPConfig(
        text_config=config_json(), vision_config=vision, projection_dim=8
    )
    whole = transformers.CLIPModel(config)
    check_equal(clip, whole, tmp_path, text_model=whole.text_model, layer=-2)


def test_a_token_sees_those_before_it_only():
    ids, mask = make_tokens(CONFIG.vocab_size)
    changed = ids.at[:, 6].set((ids[:, 6] + 1) % CONFIG.vocab_size)
    states, after = encode(ids, mask), encode(changed, mask)
    np.testing.assert_array_equal(states[0, :6], after[0, :6])
    assert (np.abs(states[0, 6:] - after[0, 6:]).max(axis=-1) > 1e-3).all()
    np.testing.assert_array_equal(states[1:], after[1:])  # there it is padding


def test_positions_are_absolute():
    ids = jnp.array([[4, 4, 4, 4]])
    states = encode(ids, jnp.ones((1, 4), bool))
    assert np.abs(np.diff(states[0], axis=0)).max(axis=-1).min() > 0.1


def test_states_are_zero_outside_the_mask_and_not_normed():
    ids, mask = make_tokens(CONFIG.vocab_size)
    mask = mask.at[2].set(False)
    states = encode(ids, mask)
    assert not states[~np.asarray(mask)].any()
    assert np.isfinite(states).all()
    power = np.square(states[np.asarray(mask)]).mean(axis=-1)
    assert power.std() > 0.05


def test_the_last_layer_and_the_final_norm_are_not_read():
    tensors = random_tensors()
    needed = {
        name: tensor
        for name, tensor in tensors.items()
        if "final_layer_norm" not in name and "layers.2." not in name
    }
    assert len(needed) == len(tensors) - 18
    ids, mask = make_tokens(CONFIG.vocab_size)
    np.testing.assert_array_equal(encode(ids, mask), encode(ids, mask, needed))


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_names_of_the_part_and_of_the_whole(prefix):
    tensors = {
        prefix + name.removeprefix("text_model."): tensor
        for name, tensor in random_tensors().items()
    }
    tensors[f"{prefix and 'vision_model.'}post_layernorm.weight"] = np.zeros(3)
    ids, mask = make_tokens(CONFIG.vocab_size)
    np.testing.assert_array_equal(encode(ids, mask), encode(ids, mask, tensors))


@pytest.mark.parametrize("whole", [False, True])
def test_reads_a_config(tmp_path, whole):
    keys = config_json()
    if whole:  # a CLIPModel's has sizes of its own, and the vision encoder's
        keys = {"model_type": "clip", "text_config": keys, "hidden_size": 99}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(keys))
    assert clip.read_config(path) == CONFIG


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'.* quick_gelu and gelu only"),
        ({"num_attention_heads": 5}, "heads must divide the width"),
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1; it must be at least 2"),
        ({"vocab_size": None}, "no key vocab_size"),
    ],
)
def test_refuses_another_network(tmp_path, changes, text):
    keys = {k: v for k, v in (config_json() | changes).items() if v is not None}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(keys))
    with pytest.raises(UserError, match=text):
        clip.read_config(path)


def test_refuses_weights_that_do_not_fit():
    tensors = random_tensors()
    del tensors["text_model.encoder.layers.1.mlp.fc1.bias"]
    name = "text_model.embeddings.position_embedding.weight"
    tensors[name] = tensors[name][:5]
    with pytest.raises(
        UserError, match=r"position.*shape \(5, 24\).*1\.mlp\.fc1\.bias"
    ):
        clip.params_from_tensors(tensors, CONFIG)
