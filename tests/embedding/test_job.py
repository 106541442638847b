import json

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.embedding.job import Outcome, fill_store, read_captions
from imagen_jax.errors import UserError
from imagen_jax.text.encoder import load_bert
from imagen_jax.weights.safetensors import read_safetensors
from tests.text.tiny_bert import write_folder

CAPTIONS = ["a fox", "the owl on the cat", "a fox", "", "red", "a fox on the red cat"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_bert(
        "tiny", write_folder(tmp_path_factory.mktemp("bert")), 6, read_safetensors
    )


def test_stores_each_distinct_caption_once(encoder, tmp_path):
    outcome = fill_store(encoder, iter(CAPTIONS), tmp_path, batch_size=2)
    assert outcome == Outcome(num_captions=4, num_truncated=2, kept=False)
    store = EmbeddingStore(tmp_path)
    assert store.manifest.num_captions == 4
    distinct = list(dict.fromkeys(filter(None, CAPTIONS)))
    embed, mask = store.lookup(distinct)
    expected = encoder.encode(encoder.tokenize(distinct))
    np.testing.assert_array_equal(mask, expected.mask)
    np.testing.assert_allclose(
        embed.astype(np.float32), expected.embed, rtol=2**-8, atol=1e-5
    )
    assert embed.dtype == ml_dtypes.bfloat16


def test_manifest_says_what_made_the_store(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["encoder"] == "tiny"
    assert manifest["weights_sha256"] == encoder.weights_sha256
    assert manifest["tokenizer"] == encoder.tokenizer
    assert (manifest["width"], manifest["max_length"]) == (24, 6)


def test_keeps_a_store_that_has_all_captions(encoder, tmp_path):
    fill_store(encoder, CAPTIONS, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    uncalled = encoder._replace(encode=None)
    outcome = fill_store(uncalled, ["red", "a fox"], tmp_path)
    assert outcome == Outcome(num_captions=2, num_truncated=0, kept=True)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("changes", "captions", "text"),
    [
        ({}, ["red", "blue"], "has 4 captions but not all of the 2 asked for; delete"),
        ({"max_length": 5}, ["red"], "made with max_length 6, now 5; delete"),
        ({"weights_sha256": "0"}, ["red"], "made with weights_sha256 .*, now '0'"),
        ({}, ["", ""], "no captions to embed"),
    ],
)
def test_leaves_a_store_it_cannot_use(encoder, tmp_path, changes, captions, text):
    fill_store(encoder, CAPTIONS, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=text):
        fill_store(encoder._replace(**changes), captions, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_an_interrupted_job_is_done_again(encoder, tmp_path):
    calls = []

    def fail_later(tokens):
        calls.append(len(tokens.ids))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encoder.encode(tokens)

    with pytest.raises(KeyboardInterrupt):
        fill_store(encoder._replace(encode=fail_later), CAPTIONS, tmp_path, 2)
    assert not fill_store(encoder, CAPTIONS, tmp_path).kept
    assert EmbeddingStore(tmp_path).manifest.num_captions == 4


class Source:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise BadRecordError("caption is not UTF-8")
        return Record(b"", f"caption {index}", f"record {index}")


def test_a_bad_record_is_logged_and_left_out(caplog):
    assert list(read_captions(Source())) == ["caption 0", "caption 2"]
    assert "record 1 has no usable caption: caption is not UTF-8" in caplog.text
