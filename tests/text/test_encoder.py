import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.text import minilm, t5
from imagen_jax.text.catalog import CATALOG, NAMES
from imagen_jax.text.encoder import bucket, load_encoder
from imagen_jax.weights.folder import open_weights
from tests.text import tiny_bert, tiny_clip, tiny_t5
from tests.text.tiny import load_tiny
from tests.weights.t5x_fixture import t5_arrays, transformers_names

CAPTIONS = ["a fox", "the owl on the cat", "red", "a blue cat on a fox", "", "owl owl"]
LONG = "the fox on a cat on a red owl on the blue cat on a fox on a cat on the owl"
WRITERS = {"bert": tiny_bert, "clip": tiny_clip, "t5": tiny_t5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each architecture, by its name."""
    root = tmp_path_factory.mktemp("encoders")
    return {name: tiny.write_folder(root / name) for name, tiny in WRITERS.items()}


@pytest.fixture(scope="module", params=WRITERS)
def encoder(request, folders):
    return load_tiny(folders[request.param])


@pytest.fixture(scope="module")
def t5_encoder(folders):
    return load_tiny(folders["t5"], max_length=50)


def encode(encoder, captions):
    """Returns embeddings and mask as numpy."""
    return TextEmbeddings(*map(np.asarray, encoder.encode(encoder.tokenize(captions))))


def test_describes_itself(folders):
    encoder = load_tiny(folders["bert"], 8, "mine", cleaning="basic")
    assert encoder.identity() == {
        "encoder": "mine",
        "weights_sha256": encoder.weights_sha256,
        "tokenizer": encoder.tokenizer,
        "cleaning": "basic",
        "max_length": 8,
        "width": 24,
    }
    assert encoder.tokenizer == encoder.tokenize.id
    assert encoder.tokenizer.startswith("tokenizer.json sha256:")


def test_a_caption_does_not_depend_on_its_batch(encoder):
    together = encode(encoder, CAPTIONS)
    assert together.embed.shape == (6, 8, encoder.width)
    for i, caption in enumerate(CAPTIONS):
        alone = encode(encoder, [caption])
        np.testing.assert_array_equal(alone.mask[0], together.mask[i])
        np.testing.assert_allclose(alone.embed[0], together.embed[i], rtol=0, atol=1e-5)


def test_an_empty_caption_is_the_null_text(encoder):
    """Mutation: leave `is_null` out of the mask."""
    embed, mask = encode(encoder, ["a fox", "", "red"])
    assert not embed[1].any()
    assert mask[1].tolist() == [True] + [False] * 7
    assert embed[0].any()
    assert mask.sum(axis=1).tolist() == [4, 1, 3]


def test_a_caption_that_cleans_to_nothing_is_the_null_text(folders):
    encoder = load_tiny(folders["t5"], cleaning="basic")
    embed, mask = encode(encoder, [" <b></b> ", "a <i>fox</i>", "a fox"])
    assert not embed[0].any()
    assert mask[0].tolist() == [True] + [False] * 7
    np.testing.assert_array_equal(embed[1], embed[2])


def test_states_fn_is_encode_without_its_padding(encoder):
    tokens = encoder.tokenize(CAPTIONS)
    expected = encode(encoder, CAPTIONS)
    embed, mask = jax.jit(encoder.states_fn)(encoder.params, *tokens)
    np.testing.assert_array_equal(mask, expected.mask)
    np.testing.assert_allclose(embed, expected.embed, rtol=0, atol=1e-5)


def test_cutting_to_a_bucket_changes_nothing(t5_encoder):
    for caption in ("red", LONG):
        tokens = t5_encoder.tokenize([caption])
        whole, _ = t5_encoder.states_fn(t5_encoder.params, *map(jnp.asarray, tokens))
        embed, mask = encode(t5_encoder, [caption])
        assert embed.shape == (1, 50, 16)
        np.testing.assert_array_equal(mask, tokens.mask)
        np.testing.assert_allclose(embed, whole, rtol=0, atol=1e-5)


def test_one_compile_for_each_bucket_and_power_of_two(folders, monkeypatch):
    """Mutation: do not pad the batch, or do not cut the tokens."""
    traces = []
    original = t5.hidden_states

    def counted(params, ids, mask, config):
        traces.append(ids.shape)
        return original(params, ids, mask, config)

    monkeypatch.setattr(t5, "hidden_states", counted)
    encoder = load_tiny(folders["t5"], 50)
    assert len(LONG.split()) == 22
    for captions in (
        ["red"] * 3,
        ["a fox"] * 4,
        ["red", LONG],
        [LONG, LONG],
        [f"{LONG} {LONG}"],
        ["red", "red", "a fox"],
    ):
        assert encode(encoder, captions).embed.shape == (len(captions), 50, 16)
    assert traces == [(4, 16), (2, 32), (1, 50)]


@given(max_length=st.integers(1, 600), share=st.floats(0, 1))
def test_a_bucket_holds_the_caption_and_there_are_few(max_length, share):
    length = round(share * max_length)
    n = bucket(length, max_length)
    assert length <= n <= max_length
    assert n == max_length or n in (16, 32, 64, 128, 256, 512)
    assert n == max_length or n == 16 or n < 2 * length


def test_buckets():
    assert [bucket(n, 100) for n in (0, 1, 16, 17, 32, 33, 64, 65, 100)] == [
        *(16, 16, 16, 32, 32, 64, 64, 100, 100)
    ]
    assert bucket(3, 8) == 8


def test_bfloat16_casts_the_parameters_but_not_their_hash(folders):
    exact = load_tiny(folders["t5"])
    rounded = load_tiny(folders["t5"], dtype="bfloat16")
    assert rounded.identity() == exact.identity()
    kinds = {leaf.dtype for leaf in jax.tree.leaves(rounded.params)}
    assert kinds == {jnp.dtype(jnp.bfloat16)}
    a, b = (encode(encoder, CAPTIONS).embed for encoder in (exact, rounded))
    assert b.dtype == ml_dtypes.bfloat16
    error = np.linalg.norm(b.astype(np.float32) - a) / np.linalg.norm(a)
    assert 1e-4 < error < 2e-2


def test_parameters_are_placed_leaf_by_leaf_in_the_compute_type(folders):
    placed = {}

    def place(path, leaf):
        placed[path] = leaf.dtype
        return jnp.asarray(leaf)

    encoder = load_tiny(folders["t5"], dtype="bfloat16", place=place)
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(encoder.params)
    }
    assert placed.keys() == paths
    assert "layers/attention/query/kernel" in paths
    assert set(placed.values()) == {np.dtype(ml_dtypes.bfloat16)}


def write_t5(folder: Path, tensors) -> Path:
    """Returns a folder of a tiny T5 with these tensors."""
    tiny_t5.write_folder(folder)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def test_the_hash_is_of_values_not_of_files(tmp_path, folders):
    """Mutation: hash the stored bytes, or leave the paths or shapes out."""
    original = load_tiny(folders["t5"])
    checkpoint = tiny_t5.write_checkpoint(tmp_path / "t5x")
    t5x = load_tiny(checkpoint)
    assert t5x.identity() == original.identity()
    tensors = transformers_names(t5_arrays())
    rounded = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}
    stored = write_t5(tmp_path / "bfloat16", rounded)
    widened = {k: v.astype(np.float32) for k, v in rounded.items()}
    by_type = [
        load_tiny(folder).weights_sha256
        for folder in (stored, write_t5(tmp_path / "float32", widened))
    ]
    assert by_type[0] == by_type[1] != original.weights_sha256
    name = "encoder.final_layer_norm.weight"
    other = tensors | {name: tensors[name] + np.eye(16, dtype=np.float32)[3] * 1e-3}
    changed = load_tiny(write_t5(tmp_path / "changed", other))
    assert changed.weights_sha256 != original.weights_sha256


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_a_t5x_checkpoint_gives_the_same_embeddings(
    tmp_path, folders, scanned, version
):
    checkpoint = tiny_t5.write_checkpoint(
        tmp_path / "checkpoint_5", scanned=scanned, version=version
    )
    for path in (checkpoint, tmp_path):
        encoder = load_tiny(path, tokenizer=str(folders["t5"]))
        embed, mask = encode(encoder, CAPTIONS)
        expected = encode(load_tiny(folders["t5"]), CAPTIONS)
        np.testing.assert_array_equal(mask, expected.mask)
        np.testing.assert_allclose(embed, expected.embed, rtol=0, atol=1e-5)


def test_one_file_of_weights_finds_its_config_beside_it(folders):
    file = load_tiny(folders["clip"] / "model.safetensors")
    assert file.identity() == load_tiny(folders["clip"]).identity()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_catalog_is_found_without_a_path(name, folders, monkeypatch):
    entry = CATALOG[name]
    asked = []

    def find(text):
        asked.append(text)
        return folders[entry.architecture]

    monkeypatch.setattr(minilm, "fetch", lambda: find(""))
    encoder = load_encoder(name, 8, find_weights=find, open_weights=open_weights)
    assert encoder.name == name
    assert asked == [entry.repository]
    load_encoder(
        name, 8, find_weights=find, open_weights=open_weights, weights="owner/name"
    )
    assert asked[1:] == ["owner/name"]


def test_refuses_an_unknown_name():
    with pytest.raises(
        UserError, match=r"no text encoder 't6'; known: minilm, .*t5_v1_1_xxl; one by"
    ):
        load_encoder("t6", 32, find_weights=Path, open_weights=open_weights)


@pytest.mark.parametrize(("architecture", "limit"), [("bert", 16), ("clip", 20)])
def test_refuses_more_tokens_than_positions(folders, architecture, limit):
    load_tiny(folders[architecture], limit)
    with pytest.raises(
        UserError, match=f"max_length is {limit + 1}; tiny has {limit} positions"
    ):
        load_tiny(folders[architecture], limit + 1)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_refuses_other_types(folders, dtype):
    with pytest.raises(UserError, match=f"dtype is '{dtype}'; give float32 or bfl"):
        load_tiny(folders["t5"], dtype=dtype)


def test_refuses_weights_of_another_architecture(folders, tmp_path):
    with pytest.raises(UserError, match="a bert encoder, but t5_v1_1_xxl is a t5"):
        load_tiny(folders["bert"], name="t5_v1_1_xxl")
    with pytest.raises(UserError, match="a t5 encoder, but bert_base is a bert"):
        load_tiny(tiny_t5.write_checkpoint(tmp_path), name="bert_base")


@pytest.mark.parametrize("model_type", ["gpt2", None])
def test_refuses_another_model_type(tmp_path, model_type):
    tiny_bert.write_folder(tmp_path)
    keys = tiny_bert.config_json() | {"model_type": model_type}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with pytest.raises(UserError, match="the text encoders are t5, bert, clip, clip_"):
        load_tiny(tmp_path)


def test_refuses_weights_without_a_config(tmp_path):
    tiny_bert.write_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json cannot be read.*beside"):
        load_tiny(tmp_path)


def test_ids_of_the_padding_do_not_matter(t5_encoder):
    tokens = t5_encoder.tokenize(["a fox"])
    padding = tokens._replace(ids=np.where(tokens.mask, tokens.ids, 1000))
    assert np.isfinite(t5_encoder.encode(padding).embed).all()


def test_refuses_a_vocabulary_with_more_ids_than_the_encoder_has(folders, tmp_path):
    folder = tiny_t5.write_folder(tmp_path / "t5")
    path = folder / "tokenizer.json"
    vocabulary = json.loads(path.read_text())
    vocabulary["model"]["vocab"]["fox"] = 40
    path.write_text(json.dumps(vocabulary))
    encoder = load_tiny(folder)
    encoder.tokenize(["an owl"])
    with pytest.raises(
        UserError, match=r"gave the id 40, the encoder has 40 ids; give"
    ):
        encoder.tokenize(["an owl", "a fox"])
