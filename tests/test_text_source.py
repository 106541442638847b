"""Store and encoder are one thing to a network: equal embeddings, checked identity."""

import dataclasses

import jax
import ml_dtypes
import numpy as np
import pytest

from imagen_jax.config import TextConfig
from imagen_jax.data.embedding_store import Manifest, write_store
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import to_global
from imagen_jax.text_source import from_encoder, from_store, open_text, with_identity
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import tiny_config

CAPTIONS = ["the fox", "a red owl on the blue cat", "", "cat", "the fox", "an axolotl"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("encoder"))
    return TextConfig("tiny_bert", CONFIG.width, 8, weights_path=str(folder))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(tiny_config(mesh={"data": 2, "fsdp": 2, "tensor": 2}).mesh)


@pytest.fixture(scope="module")
def encoder(settings, mesh):
    return from_encoder(settings, mesh)


@pytest.fixture(scope="module")
def store(tmp_path_factory, settings, encoder):
    """A store of the captions by the same encoder, and its folder."""
    folder = tmp_path_factory.mktemp("store") / "store"
    captions = [caption for caption in dict.fromkeys(CAPTIONS) if caption]
    embed, mask = encoder.embed(captions)
    valid = [rows[keep] for rows, keep in zip(embed, mask, strict=True)]
    manifest = Manifest(**encoder.identity)
    write_store(folder, manifest, zip(captions, valid, strict=True))
    return str(folder)


def test_encoded_on_the_fly_equals_the_store(settings, encoder, store, mesh):
    stored = from_store(settings, store).batch_text(CAPTIONS * 4)
    tokens = encoder.batch_text(CAPTIONS * 4)
    assert isinstance(tokens, TextTokens)
    live = encoder.encode_fn(to_global(tokens, mesh))
    assert live.embed.dtype == ml_dtypes.bfloat16
    assert live.embed.sharding.spec[0] == ("data", "fsdp")
    np.testing.assert_array_equal(live.mask, stored.mask)
    # bfloat16 as ordered integers: one apart is one unit in the last place.
    a, b = (
        np.asarray(embed).view(np.int16).astype(int)
        for embed in (live.embed, stored.embed)
    )
    valid = np.asarray(stored.mask)
    assert (np.abs(a - b)[valid] <= 1).mean() >= 0.999
    assert not np.asarray(live.embed, np.float32)[~valid].any()


def test_the_null_text_is_the_same_from_both(settings, encoder, store):
    for source in (encoder, from_store(settings, store)):
        embed, mask = source.embed([""])
        assert not embed.astype(np.float32).any()
        assert mask.tolist() == [[True] + [False] * 7]


def test_embeddings_follow_their_captions(encoder):
    whole = encoder.embed(CAPTIONS)
    assert isinstance(whole, TextEmbeddings)
    assert whole.embed.dtype == ml_dtypes.bfloat16
    for row, caption in enumerate(CAPTIONS):
        alone = encoder.embed([caption])
        np.testing.assert_array_equal(whole.mask[row], alone.mask[0])
        np.testing.assert_allclose(
            whole.embed[row].astype(np.float32),
            alone.embed[0].astype(np.float32),
            atol=0.02,
        )


def test_the_weights_are_spread_over_the_mesh(encoder, settings, mesh):
    params = open_text(
        dataclasses.replace(settings, on_the_fly=True), "", mesh
    ).encode_fn.args[0]  # a partial of the parameters
    specs = {tuple(leaf.sharding.spec) for leaf in jax.tree.leaves(params)}
    assert any("tensor" in spec for spec in specs)


def test_prompts_of_a_stage_trained_on_the_fly_can_come_from_a_store(
    settings, store, mesh
):
    trained = dataclasses.replace(settings, on_the_fly=True)
    assert open_text(trained, store, mesh).encode_fn is None
    assert open_text(trained, "", mesh).encode_fn is not None


def test_identity_is_recorded_and_compared(settings, encoder, store):
    config = with_identity(tiny_config(text={"width": CONFIG.width}), encoder.identity)
    assert config.text.weights_sha256 == encoder.identity["weights_sha256"]
    from_store(config.text, store)  # made by the same
    for field, value in [
        ("encoder", "t5"),
        ("width", 7),
        ("max_length", 5),
        ("cleaning", "basic"),
        ("weights_sha256", "0" * 64),
        ("tokenizer", "vocab.txt sha256:0"),
    ]:
        other = dataclasses.replace(config.text, **{field: value})
        with pytest.raises(UserError, match=f"{field}.*the config names"):
            from_store(other, store)
