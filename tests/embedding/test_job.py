import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.remote import LocalFolder
from imagen_jax.data.store_format import Manifest, caption_hash, shard_of
from imagen_jax.embedding import job
from imagen_jax.embedding.job import (
    Outcome,
    default_num_shards,
    fill_store,
    wait_until_finished,
)
from imagen_jax.errors import UserError
from tests.embedding.fake_encoder import expected, make_encoder

CAPTIONS = ["a fox", "the owl on the cat is red today", "a fox", "", "red", "an owl"]
MANY = [f"a caption number {i}" for i in range(40)]


@pytest.fixture
def encoder():
    return make_encoder()


def files(folder):
    """Returns what is in a folder, and when each file was written."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


def uncalled(encoder):
    return encoder._replace(encode=None)


def test_stores_each_distinct_caption_once(encoder, tmp_path):
    outcome = fill_store(encoder, iter(CAPTIONS), tmp_path, batch_size=2)
    assert outcome == Outcome(num_captions=4, num_truncated=1, kept=False)
    store = EmbeddingStore(tmp_path)
    assert (store.manifest.num_captions, store.manifest.num_truncated) == (4, 1)
    embed, mask = store.lookup(CAPTIONS[:3] + CAPTIONS[4:])
    wanted = expected(CAPTIONS[:3] + CAPTIONS[4:])
    np.testing.assert_array_equal(embed, wanted[0])
    np.testing.assert_array_equal(mask, wanted[1])
    assert embed.dtype == ml_dtypes.bfloat16


def test_the_manifest_says_what_made_the_store(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path, dtype="int8", num_shards=3)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert encoder.identity().items() <= manifest.items()
    assert (manifest["dtype"], manifest["num_shards"]) == ("int8", 3)
    embed, _ = EmbeddingStore(tmp_path).lookup(["red"])
    wide, wanted = embed.astype(np.float32), expected(["red"])[0].astype(np.float32)
    assert 0 < np.abs(wide - wanted).max() < np.abs(wanted).max() / 127


def test_a_store_holds_three_files_a_shard_and_nothing_left_over(encoder, tmp_path):
    (tmp_path / "unfinished-by-a-killed-job").mkdir()
    fill_store(encoder, MANY, tmp_path, num_shards=2)
    stems = ["shard-00000-of-00002", "shard-00001-of-00002"]
    shards = {
        stem + ending
        for stem in stems
        for ending in (".array_record", ".index.npy", ".json")
    }
    assert {path.name for path in tmp_path.iterdir()} == {
        *shards,
        "plan.json",
        "manifest.json",
    }


def test_the_number_of_shards_follows_from_the_number_of_captions():
    counts = [1, 16_384, 16_385, 12_000_000]
    assert [default_num_shards(count) for count in counts] == [1, 1, 2, 733]


def test_keeps_a_store_that_has_all_captions(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path)
    before = files(tmp_path)
    outcome = fill_store(uncalled(encoder), ["red", "a fox", "red"], tmp_path)
    assert outcome == Outcome(num_captions=2, num_truncated=0, kept=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("changes", "settings", "text"),
    [
        ({"max_length": 5}, {}, "made with max_length 6, now 5; delete"),
        ({"weights_sha256": "1"}, {}, "made with weights_sha256 .*, now '1'"),
        ({"cleaning": "basic"}, {}, "made with cleaning 'none', now 'basic'"),
        ({"name": "t5"}, {}, "made with encoder 'words', now 't5'"),
        ({}, {"dtype": "int8"}, "made with dtype 'bfloat16', now 'int8'"),
        ({}, {"num_shards": 5}, "made with num_shards 2, now 5"),
    ],
)
def test_two_settings_are_never_mixed(
    encoder, tmp_path, finished, changes, settings, text
):
    fill_store(encoder, CAPTIONS, tmp_path, num_shards=2)
    if not finished:
        (tmp_path / "manifest.json").unlink()
        (tmp_path / "shard-00001-of-00002.json").unlink()
    before = files(tmp_path)
    with pytest.raises(UserError, match=text):
        fill_store(encoder._replace(**changes), CAPTIONS, tmp_path, **settings)
    assert files(tmp_path) == before


def test_a_finished_store_that_lacks_captions_is_left_alone(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path)
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"has 4 captions but not all of the 2.*delete"):
        fill_store(encoder, ["red", "blue"], tmp_path)
    assert files(tmp_path) == before


def test_a_store_that_was_begun_for_other_captions_is_left_alone(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path)
    (tmp_path / "manifest.json").unlink()
    before = files(tmp_path)
    with pytest.raises(UserError, match="begun for other captions than these"):
        fill_store(encoder, [*CAPTIONS, "blue"], tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dtype": "int4"}, "dtype to store is 'int4'; give bfloat16 or int8"),
        ({"num_shards": 0}, "num_shards is 0; give at least 1"),
        ({"host": (2, 2)}, "host 2 of 2; give an index from 0"),
    ],
)
def test_a_setting_that_is_not_allowed_leaves_nothing(
    encoder, tmp_path, settings, text
):
    with pytest.raises(UserError, match=text):
        fill_store(encoder, CAPTIONS, tmp_path / "store", **settings)
    assert not (tmp_path / "store").exists()


def interrupted(encoder, num_batches):
    """Returns the encoder, which breaks off after so many batches."""
    calls = []

    def encode(tokens):
        calls.append(tokens)
        if len(calls) > num_batches:
            raise KeyboardInterrupt
        return encoder.encode(tokens)

    return encoder._replace(encode=encode)


def test_an_interrupted_job_goes_on(encoder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill_store(interrupted(encoder, 3), MANY, tmp_path, num_shards=8)
    done = files(tmp_path)
    assert 3 <= len(done) - 1 < 24  # the plan, and some of the shards' files
    with pytest.raises(UserError, match=r"no manifest\.json, though one was begun"):
        EmbeddingStore(tmp_path)
    calls = []
    watching = encoder._replace(
        encode=lambda tokens: calls.append(tokens) or encoder.encode(tokens)
    )
    outcome = fill_store(watching, MANY, tmp_path)  # the plan knows the shards
    assert outcome == Outcome(40, 0, kept=False)
    # Nothing is written or encoded twice: the rest is one batch for each shard.
    assert done.items() <= files(tmp_path).items()
    assert len(calls) == 8 - (len(done) - 1) // 3
    np.testing.assert_array_equal(
        EmbeddingStore(tmp_path).lookup(MANY)[0], expected(MANY)[0]
    )


@pytest.mark.parametrize("ending", [".array_record", ".index.npy", ".json"])
def test_a_shard_without_its_marker_is_made_anew(
    encoder, tmp_path, monkeypatch, ending
):
    """Killed before the first, second or third of a shard's files is there."""
    put = LocalFolder.put

    def killed(self, file, name):
        if name.endswith(ending) and name != "plan.json":
            raise KeyboardInterrupt
        put(self, file, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            fill_store(encoder, CAPTIONS, tmp_path)
    assert not (tmp_path / "shard-00000-of-00001.json").exists()
    assert fill_store(encoder, CAPTIONS, tmp_path).num_captions == 4
    np.testing.assert_array_equal(
        EmbeddingStore(tmp_path).lookup(["red"])[0], expected(["red"])[0]
    )


def test_hosts_together_make_the_store_of_one(encoder, tmp_path):
    one, together = tmp_path / "one", tmp_path / "together"
    fill_store(encoder, MANY, one, num_shards=5)
    outcomes = [
        fill_store(encoder, MANY, together, num_shards=5, host=(index, 3))
        for index in (1, 2, 0)
    ]
    assert [outcome.finished for outcome in outcomes] == [False, False, True]
    assert sum(outcome.num_captions for outcome in outcomes) == 40
    assert not any(outcome.kept for outcome in outcomes)
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in together.iterdir()
    }


def test_lengths_are_rounded_as_this_hosts_share_is_worth(
    encoder, tmp_path, monkeypatch
):
    asked, shapes = [], set()
    monkeypatch.setattr(job, "length_step", lambda *args: asked.append(args) or 4)
    watching = encoder._replace(
        encode=lambda tokens: shapes.add(tokens.ids.shape) or encoder.encode(tokens)
    )
    fill_store(watching, MANY, tmp_path, num_shards=4, batch_size=8, host=(0, 2))
    assert asked == [(20, 6, 8)]
    assert shapes == {(8, 4)}  # all have 4 words


def test_hosts_that_begin_at_once_agree_on_one_plan(encoder, tmp_path, monkeypatch):
    """The other host writes its plan between our look and our own plan."""
    begin = job.begin_store

    def raced(folder, plan):
        other = dataclasses.replace(plan, num_shards=3)
        begin(folder, other)
        return begin(folder, plan)

    monkeypatch.setattr(job, "begin_store", raced)
    fill_store(encoder, MANY, tmp_path)
    assert EmbeddingStore(tmp_path).manifest.num_shards == 3
    with pytest.raises(UserError, match="num_shards 3, now 4"):
        fill_store(encoder, MANY, tmp_path / "other", num_shards=4)


def test_hosts_wait_for_the_last_one(encoder, tmp_path, monkeypatch):
    fill_store(encoder, MANY, tmp_path, num_shards=2, host=(1, 2))
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            fill_store(encoder, MANY, tmp_path, num_shards=2, host=(0, 2))

    monkeypatch.setattr(job.time, "sleep", nap)
    manifest = wait_until_finished(tmp_path, period_sec=7.0)
    assert isinstance(manifest, Manifest)
    assert manifest.num_captions == 40
    assert naps.count(7.0) == 2


def test_captions_are_in_the_shard_of_their_hash(encoder, tmp_path):
    fill_store(encoder, MANY, tmp_path, num_shards=4)
    for path in tmp_path.glob("shard-*"):
        if not path.name.startswith("shard-00002"):
            path.unlink()
    here = [c for c in MANY if shard_of(caption_hash(c), 4) == 2]
    assert EmbeddingStore(tmp_path).lookup(here)[0].any(axis=(1, 2)).all()
