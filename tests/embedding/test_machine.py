from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from imagen_jax.embedding.machine import join_hosts, load_here
from imagen_jax.errors import UserError
from imagen_jax.text.encoder import load_encoder
from imagen_jax.weights.folder import open_weights
from tests.text.tiny_bert import write_folder

CAPTIONS = ["a fox", "the owl on the cat", "red", "", "a fox on the red cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_folder(tmp_path_factory.mktemp("bert")))


def test_an_encoder_spreads_its_batches_over_the_devices(folder):
    whole = load_here("tiny", 8, 8, weights=folder)
    tokens = whole.tokenize(CAPTIONS + [""] * 3)
    text = whole.encode(tokens)
    assert len(text.embed.sharding.device_set) == 8
    assert text.embed.dtype == ml_dtypes.bfloat16
    alone = load_encoder(
        "tiny", 8, find_weights=Path, open_weights=open_weights, weights=folder
    ).encode(tokens)
    assert len(alone.embed.sharding.device_set) == 1
    np.testing.assert_array_equal(text.mask, alone.mask)
    np.testing.assert_allclose(
        np.asarray(text.embed, np.float32), alone.embed, rtol=2**-8, atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [0, 12])
def test_a_batch_that_does_not_divide_is_refused(folder, batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size}.*multiple of 8"):
        load_here("tiny", 8, batch_size, weights=folder)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((None,) * 4, (0, 1)), (("3/4", None, None, None), (3, 4))],
)
def test_hosts_that_do_not_know_of_each_other(arguments, expected):
    assert join_hosts(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "initialised"),
    [(("auto", None, None), ()), (("10.0.0.1:99", 3, 2), ("10.0.0.1:99", 3, 2))],
)
def test_processes_that_jax_brings_together(monkeypatch, arguments, initialised):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: calls.append(a))
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    assert join_hosts(None, *arguments) == (2, 3)
    assert calls == [initialised]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("0/2", "auto", None, None), "--hosts or --coordinator, not both"),
        (("2", None, None, None), "--hosts is '2'; give I/N"),
        (("-1/2", None, None, None), "--hosts is '-1/2'; give I/N"),
        ((None, "a:1", None, 0), "needs --num_processes and --process_id"),
    ],
)
def test_contradicting_hosts_are_refused(arguments, text):
    with pytest.raises(UserError, match=text):
        join_hosts(*arguments)
