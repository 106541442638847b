import jax
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import t5, t5x
from imagen_jax.weights.folder import open_weights
from tests.text.oracle import torch_states
from tests.text.tiny import make_tokens
from tests.text.tiny_t5 import config_of
from tests.weights.t5x_fixture import TINY, t5_arrays, transformers_names, write_t5x

SHAPES = {
    "v1.1": TINY,
    "v1.0": TINY._replace(gated=False, num_layers=2, num_heads=3, head_dim=8),
    "12 layers": TINY._replace(num_layers=12),  # "10" sorts before "2"
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def read(tensors):
    config = t5x.config_from_t5x(tensors)
    return config, t5x.params_from_t5x(tensors, config)


def states_of(config, params):
    ids, mask = make_tokens(config.vocab_size, n=20)
    return np.asarray(t5.hidden_states(params, ids, mask, config))


@shapes
def test_unscanned_parameters_are_those_of_transformers(shape):
    config, params = read(t5_arrays(shape))
    assert config == config_of(shape)
    expected = t5.params_from_tensors(
        transformers_names(t5_arrays(shape), shape), config_of(shape)
    )
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@shapes
def test_scanned_states_are_those_of_unscanned(shape):
    config, params = read(t5_arrays(shape, scanned=True))
    assert not config.shared_relative_bias
    np.testing.assert_allclose(
        states_of(config, params),
        states_of(*read(t5_arrays(shape))),
        rtol=0,
        atol=1e-6,
    )


def test_each_layer_of_a_scanned_checkpoint_has_its_own_biases():
    arrays = t5_arrays(scanned=True)
    states = states_of(*read(arrays))
    name = "encoder/encoder/relpos_bias/rel_embedding"
    arrays[name][:, -1] = np.random.default_rng(5).standard_normal((2, 32))
    assert np.abs(states_of(*read(arrays)) - states).max() > 0.05
    arrays[name][:] = arrays[name][:, -1:]  # and not only the last layer's counts
    assert np.abs(states_of(*read(arrays)) - states).max() > 0.05


@pytest.mark.oracle
@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_a_checkpoint_equals_transformers(tmp_path, scanned, version):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    write_t5x(tmp_path, t5_arrays(scanned=scanned), version=version)
    opened = open_weights(tmp_path)
    assert opened.format == "t5x"
    config, params = read(opened.tensors)
    model = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=TINY.vocab_size,
            d_model=TINY.width,
            d_kv=TINY.head_dim,
            d_ff=TINY.mlp_width,
            num_layers=TINY.num_layers,
            num_heads=TINY.num_heads,
            feed_forward_proj="gated-gelu",
        )
    ).eval()
    names = transformers_names(t5_arrays())
    model.load_state_dict({k: torch.from_numpy(v) for k, v in names.items()})
    ids, mask = make_tokens(TINY.vocab_size, n=20)
    valid = np.asarray(mask)
    expected = torch_states(model, ids, mask, layer=-1)[valid]
    np.testing.assert_allclose(
        states_of(config, params)[valid], expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("scanned", [False, True])
def test_all_missing_and_misshapen_arrays_are_named_at_once(scanned):
    arrays = t5_arrays(scanned=scanned)
    config = t5x.config_from_t5x(arrays)
    layer = "encoder/encoder" if scanned else "encoder/layers_1"
    del arrays[f"{layer}/mlp/wo/kernel"], arrays["encoder/encoder_norm/scale"]
    arrays[f"{layer}/attention/out/kernel"] = np.zeros((2, 3), np.float32)
    with pytest.raises(UserError) as raised:
        t5x.params_from_t5x(arrays, config)
    assert f"no tensor {layer}/mlp/wo/kernel" in str(raised.value)
    assert "no tensor encoder/encoder_norm/scale" in str(raised.value)
    assert f"{layer}/attention/out/kernel has the shape (2, 3)" in str(raised.value)


def test_a_layer_that_is_missing_whole_is_named():
    arrays = t5_arrays()
    arrays = {k: v for k, v in arrays.items() if "layers_1/" not in k}
    with pytest.raises(UserError, match="no tensor encoder/layers_1/mlp/wo/kernel"):
        read(arrays)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {
                "token_embedder/embedding": None,
                "encoder/layers_0/mlp/wi_0/kernel": None,
            },
            "no token_embedder/embedding, encoder/layers_0/mlp/wi/kernel; give one of",
        ),
        (
            {"encoder/layers_0/attention/query/kernel": np.zeros((2, 2, 2))},
            r"query/kernel has the shape \(2, 2, 2\); it must have 2 axes",
        ),
        (
            {"encoder/relpos_bias/rel_embedding": None},
            "no encoder/layers_0/relpos_bias",
        ),
    ],
)
def test_another_layout_is_refused(changes, text):
    arrays = {k: v for k, v in (t5_arrays() | changes).items() if v is not None}
    with pytest.raises(UserError, match=text):
        t5x.config_from_t5x(arrays)
