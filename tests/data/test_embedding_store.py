import dataclasses
import json
import pickle
import threading

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.data import embedding_store
from imagen_jax.data.embedding_store import EmbeddingStore, Manifest, write_store
from imagen_jax.data.store_format import caption_hash, shard_of
from imagen_jax.data.store_shard import open_records
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


def test_store_round_trip_over_several_shards(tmp_path):
    captions = [f"caption number {i}" for i in range(300)] + ["Größe: 5 µm", "a\nb"]
    manifest = write(tmp_path, captions, num_shards=4)
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


def test_int8_comes_back_as_bfloat16(tmp_path):
    manifest = dataclasses.replace(MANIFEST, dtype="int8")
    write(tmp_path, ["a", "b"], manifest)
    embed, mask = EmbeddingStore(tmp_path).lookup(["a", "", "b"])
    assert embed.dtype == ml_dtypes.bfloat16
    assert mask.sum() == 5
    wide = embed.astype(np.float32)
    exact = embedding("a").astype(np.float32)
    assert 0 < np.abs(wide[0, :2] - exact).max() < np.abs(exact).max() / 127


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
    records = open_records(tmp_path / "shard-00000-of-00001.array_record")
    assert records.num_records() == 2


def test_a_lookup_opens_only_the_shards_it_needs(tmp_path):
    captions = [f"caption {i}" for i in range(40)]
    write(tmp_path, captions, num_shards=4)
    for path in tmp_path.glob("shard-*"):
        if not path.name.startswith("shard-00002-of-00004"):
            path.unlink()
    store = EmbeddingStore(tmp_path)
    here = [c for c in captions if shard_of(caption_hash(c), 4) == 2]
    assert 0 < len(here) < 40
    assert store.lookup(here)[0].any(axis=(1, 2)).all()


def test_few_shards_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_store, "_MAX_OPEN_SHARDS", 3)
    captions = [f"caption {i}" for i in range(60)]
    write(tmp_path, captions, num_shards=10)
    store = EmbeddingStore(tmp_path, cache_size=0)
    for _ in range(2):
        embed, _ = store.lookup(captions)
        for row, caption in zip(embed, captions, strict=True):
            valid = embedding(caption)
            np.testing.assert_array_equal(row[: len(valid)], valid)
    assert len(store._shards) == 3


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
    write(tmp_path, captions, num_shards=3)
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


def test_captions_are_asked_for_without_reading_them(tmp_path):
    write(tmp_path, ["a", "b"], num_shards=2)
    store = EmbeddingStore(tmp_path)
    store._read = None
    assert store.missing(["a", "x", "", "b", "y"]) == ["x", "y"]


@pytest.mark.parametrize("ending", [".array_record", ".index.npy"])
@pytest.mark.parametrize("damage", [None, b"", b"half"])
def test_a_half_written_shard_is_named(tmp_path, ending, damage):
    write(tmp_path, ["a"])
    path = tmp_path / f"shard-00000-of-00001{ending}"
    if damage is None:
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage else b"")
    with pytest.raises(UserError, match=r"shard 0 of .*cannot be read.*--verify"):
        EmbeddingStore(tmp_path).lookup(["a"])


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


def test_an_embedding_that_is_not_finite_is_refused(tmp_path):
    embed = np.ones((1, 4), ml_dtypes.bfloat16)
    embed[0, 2] = np.nan
    with pytest.raises(UserError, match="embedding of 'a' is not finite"):
        write_store(tmp_path, MANIFEST, [("a", embed)])


def test_an_interrupted_store_is_none_and_is_written_anew(tmp_path):
    def interrupted():
        yield "a", embedding("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, MANIFEST, interrupted())
    with pytest.raises(UserError, match="no finished embedding store"):
        EmbeddingStore(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path, ["b"])
    assert EmbeddingStore(tmp_path).lookup(["b"])[0].any()


def test_another_version_is_refused(tmp_path):
    write(tmp_path, ["a"])
    path = tmp_path / "manifest.json"
    fields = json.loads(path.read_text())
    assert fields["version"] == 2
    path.write_text(json.dumps(fields | {"version": 99}))
    with pytest.raises(UserError, match=r"version 99.*reads version 2"):
        EmbeddingStore(tmp_path)
