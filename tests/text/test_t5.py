import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import place_on
from imagen_jax.text import t5
from tests.text.oracle import check_equal
from tests.text.tiny import make_tokens
from tests.text.tiny_t5 import config_json, config_of
from tests.tiny import tiny_config
from tests.weights.t5x_fixture import TINY, t5_arrays, transformers_names

V1_0 = TINY._replace(gated=False, num_layers=2, num_heads=3, head_dim=8)
SHAPES = {"v1.1": TINY, "v1.0": V1_0}


def make_params(shape=TINY, place=None):
    tensors = transformers_names(t5_arrays(shape), shape)
    if place is None:
        return t5.params_from_tensors(tensors, config_of(shape))
    return t5.params_from_tensors(tensors, config_of(shape), place)


def encode(ids, mask, shape=TINY):
    states = t5.hidden_states(make_params(shape), ids, mask, config_of(shape))
    return np.asarray(states)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("n", "keys"),
    [
        (20, {"feed_forward_proj": "gated-gelu"}),
        (20, {"feed_forward_proj": "relu", "d_kv": 16, "num_heads": 3}),
        (
            40,
            {
                "feed_forward_proj": "gated-gelu",
                "num_layers": 5,
                "relative_attention_num_buckets": 8,
                "relative_attention_max_distance": 20,
            },
        ),
        (
            150,  # beyond the largest distance
            {"feed_forward_proj": "relu", "d_model": 64, "d_ff": 48, "num_layers": 1},
        ),
    ],
    ids=["v1.1", "v1.0", "few buckets", "long"],
)
def test_equals_transformers(tmp_path, n, keys):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3}
    config = transformers.T5Config(**(sizes | {"num_heads": 4} | keys))
    check_equal(t5, transformers.T5EncoderModel(config), tmp_path, n=n)


@pytest.mark.oracle
def test_reads_the_encoder_of_a_whole_t5(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2}
    whole = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**sizes, num_heads=4)
    )
    check_equal(t5, whole, tmp_path, text_model=whole.encoder)


@pytest.mark.oracle
@pytest.mark.parametrize(("num_buckets", "far"), [(32, 128), (8, 20), (64, 300)])
def test_buckets_equal_transformers(num_buckets, far):
    torch = pytest.importorskip("torch")
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    distance = torch.arange(1024)[None, :] - torch.arange(1024)[:, None]
    expected = modeling.T5Attention._relative_position_bucket(
        distance, num_buckets=num_buckets, max_distance=far
    )
    given = t5.relative_buckets(1024, num_buckets, far)
    np.testing.assert_array_equal(given, expected.numpy())


def test_buckets_are_exact_near_and_logarithmic_far():
    from_first = t5.relative_buckets(200, 32, 128)[0]
    from_last = t5.relative_buckets(200, 32, 128)[-1, ::-1]
    assert from_last[:8].tolist() == list(range(8))
    assert from_first[1:8].tolist() == list(range(17, 24))
    # 8 buckets for a factor of 16 in distance: two for each doubling.
    assert from_last[[8, 11, 12, 15, 16, 23, 32, 64, 127]].tolist() == [
        *(8, 8, 9, 9, 10, 11, 12, 14, 15)
    ]
    assert set(from_last[91:]) == {15}
    assert (from_first[1:] == from_last[1:] + 16).all()


@given(quarter=st.integers(2, 16), ratio=st.floats(1.5, 50.0), n=st.integers(1, 70))
def test_buckets_grow_with_distance_and_stay_in_the_table(quarter, ratio, n):
    buckets = t5.relative_buckets(n, 4 * quarter, int(quarter * ratio) + 1)
    assert buckets.shape == (n, n)
    assert buckets.min() >= 0
    assert buckets.max() < 4 * quarter
    assert (np.diff(buckets[0, 1:]) >= 0).all()
    assert (np.diff(buckets[-1, ::-1]) >= 0).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_states_are_zero_outside_the_mask_and_normed_inside(shape):
    ids, mask = make_tokens(shape.vocab_size)
    mask = mask.at[1].set(False)
    states = encode(ids, mask, shape)
    assert not states[~np.asarray(mask)].any()
    normed = states / make_params(shape)["final_norm"]["scale"]
    power = np.square(normed[np.asarray(mask)]).mean(axis=-1)
    np.testing.assert_allclose(power, 1, atol=1e-4)


def test_padding_and_other_rows_change_nothing():
    ids, mask = make_tokens(TINY.vocab_size)
    garbage = jnp.where(mask, ids, (ids + 7) % TINY.vocab_size)
    states = encode(ids, mask)
    np.testing.assert_array_equal(states, encode(garbage, mask))
    alone = encode(ids[1:2, :4], mask[1:2, :4])
    np.testing.assert_allclose(alone[0], states[1, :4], rtol=0, atol=1e-5)


def test_only_relative_positions_count():
    """A caption moved to the right has the same states; its order counts."""
    caption = jnp.array([[5, 9, 7, 1]])
    mask = jnp.ones((1, 4), bool)
    states = encode(caption, mask)
    moved = encode(jnp.pad(caption, ((0, 0), (6, 0))), jnp.pad(mask, ((0, 0), (6, 0))))
    np.testing.assert_allclose(moved[:, 6:], states, rtol=0, atol=1e-5)
    swapped = encode(jnp.array([[9, 5, 7, 1]]), mask)
    assert np.abs(swapped[0, [1, 0]] - states[0, :2]).max() > 0.1


def test_compiles_one_layer_whatever_the_depth():
    def num_products(num_layers):
        shape = TINY._replace(num_layers=num_layers)
        program = jax.make_jaxpr(t5.hidden_states, static_argnums=3)(
            make_params(shape), *make_tokens(shape.vocab_size), config_of(shape)
        )
        return str(program).count("dot_general")

    assert num_products(2) == num_products(7) == 9  # q k v o, 2 of attention, 3 of mlp


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sharded_over_the_mesh_equals_one_device(dtype):
    shape = TINY._replace(width=64, num_heads=4, head_dim=16, mlp_width=128)
    config = config_of(shape)
    ids, mask = make_tokens(shape.vocab_size, n=12)
    mesh = make_mesh(tiny_config(mesh={"data": 2, "fsdp": 2, "tensor": 2}).mesh)
    cast = {"one": lambda path, leaf: jnp.asarray(leaf, dtype)}
    cast["mesh"] = lambda path, leaf: place_on(mesh)(path, leaf.astype(dtype))
    params = {name: make_params(shape, place) for name, place in cast.items()}
    specs = {
        axis
        for leaf in jax.tree.leaves(params["mesh"])
        for axis in leaf.sharding.spec
        if axis
    }
    assert specs == {"fsdp", "tensor"}
    kernel = params["mesh"]["layers"]["attention"]["query"]["kernel"]
    assert kernel.addressable_shards[0].data.size < kernel.size
    states = jax.jit(t5.hidden_states, static_argnames="config")
    one, many = (
        np.asarray(states(params[name], ids, mask, config=config), np.float32)
        for name in ("one", "mesh")
    )
    tolerance = 1e-5 if dtype == jnp.float32 else 0.03
    np.testing.assert_allclose(many, one, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_reads_a_config(tmp_path, shape):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_json(shape)))
    assert t5.read_config(path) == config_of(shape)


def test_reads_configs_that_say_less_or_more(tmp_path):
    """Published v1.0 files do not name their feed-forward part, none the distance."""
    path = tmp_path / "config.json"
    keys = config_json(V1_0)
    del keys["feed_forward_proj"]
    path.write_text(json.dumps(keys))
    assert t5.read_config(path) == config_of(V1_0)
    path.write_text(json.dumps(keys | {"relative_attention_max_distance": 64}))
    assert t5.read_config(path).max_distance == 64


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu'"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05"),
        ({"d_ff": None, "d_kv": None}, "no key d_kv, d_ff; give"),
    ],
)
def test_refuses_another_network(tmp_path, changes, text):
    keys = {k: v for k, v in (config_json() | changes).items() if v is not None}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(keys))
    with pytest.raises(UserError, match=text):
        t5.read_config(path)


def test_no_setting_has_a_second_default():
    fields = dataclasses.fields(t5.T5Config)
    assert all(field.default is dataclasses.MISSING for field in fields)


def test_refuses_weights_of_another_version():
    """v1.0 and v1.1 must not be mixed: a gate cannot be guessed."""
    tensors = transformers_names(t5_arrays(V1_0), V1_0)
    config = dataclasses.replace(config_of(V1_0), gated=True)
    with pytest.raises(UserError, match=r"no tensor encoder\.block\.0.*wi_0.*wi_1"):
        t5.params_from_tensors(tensors, config)


@pytest.mark.parametrize("left_out", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_embedding_may_have_either_name(left_out):
    tensors = transformers_names(t5_arrays())
    del tensors[left_out]
    params = t5.params_from_tensors(tensors, config_of(TINY))
    expected = t5_arrays()["token_embedder/embedding"]
    np.testing.assert_array_equal(params["token"], expected)
