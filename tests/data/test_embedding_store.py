import json
import pickle
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.data import embedding_store
from imagen_jax.data.embedding_store import (
    EmbeddingStore,
    Manifest,
    decode_record,
    encode_record,
    write_store,
)
from imagen_jax.errors import UserError

MANIFEST = Manifest(
    encoder="toy", weights_sha256="0" * 64, tokenizer="words", width=4, max_length=6
)


def embedding(caption, width=4):
    """Returns something of its own for each caption: 1 to 6 tokens."""
    rng = np.random.default_rng(list(caption.encode()))
    num_tokens = 1 + len(caption) % 6
    return rng.normal(size=(num_tokens, width)).astype(ml_dtypes.bfloat16)


def write(directory, captions, manifest=MANIFEST, **options):
    pairs = ((caption, embedding(caption, manifest.width)) for caption in captions)
    return write_store(directory, manifest, pairs, **options)


@given(st.text(), st.integers(0, 5), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_record_round_trip(caption, num_tokens, width):
    embed = np.arange(num_tokens * width).astype(ml_dtypes.bfloat16)
    embed = embed.reshape(num_tokens, width)
    decoded_caption, decoded = decode_record(encode_record(caption, embed), width)
    assert decoded_caption == caption
    np.testing.assert_array_equal(decoded, embed)


def test_store_round_trip_over_several_shards(tmp_path):
    captions = [f"caption number {i}" for i in range(300)] + ["Größe: 5 µm", "a\nb"]
    manifest = write(tmp_path, captions, captions_per_shard=100)
    assert (manifest.num_captions, manifest.num_shards) == (302, 4)
    store = EmbeddingStore(tmp_path)
    assert store.manifest == manifest
    wanted = [*reversed(captions), captions[5], captions[5]]
    embed, mask = store.lookup(wanted)
    assert embed.shape == (304, 6, 4)
    assert embed.dtype == ml_dtypes.bfloat16
    for i, caption in enumerate(wanted):
        valid = embedding(caption)
        np.testing.assert_array_equal(embed[i, : len(valid)], valid)
        assert not embed[i, len(valid) :].any()
        np.testing.assert_array_equal(mask[i], np.arange(6) < len(valid))


def test_the_empty_caption_is_the_null_text(tmp_path):
    assert write(tmp_path, ["", "a"]).num_captions == 1
    embed, mask = EmbeddingStore(tmp_path).lookup(["", "a"])
    assert not embed[0].any()
    assert mask[0].tolist() == [True] + [False] * 5
    assert embed[1].any()


def test_an_empty_store_serves_the_null_text(tmp_path):
    write(tmp_path, [])
    assert EmbeddingStore(tmp_path).lookup([""])[1].sum() == 1
    with pytest.raises(UserError, match="'a'"):
        EmbeddingStore(tmp_path).lookup(["a"])


def test_only_valid_tokens_are_on_disk(tmp_path):
    manifest = Manifest("toy", "0" * 64, "words", width=128, max_length=512)
    captions = [f"{i:05d}" for i in range(256)]  # 6 tokens each
    write(tmp_path, captions, manifest)
    num_bytes = sum(file.stat().st_size for file in tmp_path.iterdir())
    payload = 256 * 6 * 128 * 2  # padded to max_length it would be 85 times as much
    assert payload < num_bytes < payload + 3 * 2**16  # array_record has 64 KiB blocks


def test_a_caption_is_stored_once(tmp_path):
    pairs = [("a", embedding("a")), ("b", embedding("b")), ("a", embedding("other"))]
    assert write_store(tmp_path, MANIFEST, pairs * 50).num_captions == 2
    embed, _ = EmbeddingStore(tmp_path).lookup(["a"])
    np.testing.assert_array_equal(embed[0, :2], embedding("a"))  # the first one


def test_a_lookup_opens_only_the_shards_it_needs(tmp_path):
    captions = [f"caption {i}" for i in range(40)]
    write(tmp_path, captions, captions_per_shard=10)
    for shard in (0, 1, 3):  # any access to another shard would fail
        (tmp_path / f"embeddings.array_record-{shard:05d}-of-00004").unlink()
    store = EmbeddingStore(tmp_path)
    assert isinstance(store._hashes, np.memmap)
    assert isinstance(store._places, np.memmap)
    embed, _ = store.lookup(captions[20:30])
    assert embed.any(axis=(1, 2)).all()


def test_cached_captions_are_not_read_again(tmp_path):
    write(tmp_path, ["a", "b", "c"])
    store = EmbeddingStore(tmp_path, cache_size=2)
    first = store.lookup(["a", "b"])
    read = store._read
    asked = []
    store._read = lambda captions: asked.append(captions) or read(captions)
    second = store.lookup(["a", "b"])
    np.testing.assert_array_equal(first[0], second[0])
    store.lookup(["b", "c"])  # pushes out a, the one not used for longest
    store.lookup(["b", "a"])
    assert asked == [[], ["c"], ["a"]]


def test_threads_read_the_same(tmp_path):
    captions = [f"caption {i}" for i in range(60)]
    write(tmp_path, captions, captions_per_shard=20)
    store = EmbeddingStore(tmp_path, cache_size=8)
    expected = EmbeddingStore(tmp_path).lookup(captions)[0]
    results = []

    def look():
        results.extend(store.lookup(captions)[0] for _ in range(5))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(np.array_equal(result, expected) for result in results)


def test_a_store_can_be_pickled(tmp_path):
    write(tmp_path, ["a"])
    store = EmbeddingStore(tmp_path)
    store.lookup(["a"])
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.lookup(["a"])[0], store.lookup(["a"])[0])


def test_a_missing_caption_is_named(tmp_path):
    write(tmp_path, ["a", "b"])
    with pytest.raises(UserError, match=r"lacks 2 of 3 captions.*'a fox'.*embed"):
        EmbeddingStore(tmp_path).lookup(["a", "a fox", "", "zebra"])


def test_a_store_of_another_encoder_or_width_is_refused(tmp_path):
    write(tmp_path, ["a"])
    store = EmbeddingStore(tmp_path)
    store.check(width=4, encoder="toy")
    store.check()
    with pytest.raises(UserError, match="made by toy, the config names t5"):
        store.check(encoder="t5")
    with pytest.raises(UserError, match="has width 4, the config says 8"):
        store.check(width=8)


def test_embeddings_of_two_encoders_are_not_mixed(tmp_path):
    write(tmp_path, ["a"])
    before = (tmp_path / "manifest.json").read_bytes()
    other = Manifest("t5", "1" * 64, "words", width=4, max_length=6)
    with pytest.raises(UserError, match=r"already holds embeddings by toy.*by t5"):
        write(tmp_path, ["b"], other)
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("shape", [(2, 5), (7, 4), (0, 4)])
def test_embeddings_that_do_not_fit_the_manifest_are_refused(tmp_path, shape):
    pairs = [("a", np.zeros(shape, ml_dtypes.bfloat16))]
    message = f"'a' has {shape[0]} tokens of width {shape[1]}.*1 to 6 tokens of width 4"
    with pytest.raises(UserError, match=message):
        write_store(tmp_path, MANIFEST, pairs)


def test_an_interrupted_store_is_none_and_is_written_anew(tmp_path):
    def interrupted():
        yield "a", embedding("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, MANIFEST, interrupted())
    with pytest.raises(UserError, match="no finished embedding store"):
        EmbeddingStore(tmp_path)
    write(tmp_path, ["b"])
    assert EmbeddingStore(tmp_path).lookup(["b"])[0].any()


def test_another_version_is_refused(tmp_path):
    write(tmp_path, ["a"])
    path = tmp_path / "manifest.json"
    fields = json.loads(path.read_text())
    assert fields["version"] == embedding_store.VERSION
    path.write_text(json.dumps(fields | {"version": 99}))
    with pytest.raises(UserError, match=r"version 99.*reads version 1"):
        EmbeddingStore(tmp_path)
