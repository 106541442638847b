import logging
import sys

import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.text.tokenizer import JsonTokenizer
from tests.text.tiny_bert import write_folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("bert")) / "tokenizer.json"


def test_pads_and_masks(path):
    tokens = JsonTokenizer(path, 7)(["a fox", "", "the red fox on a"])
    assert tokens.ids.tolist() == [
        [2, 4, 6, 3, 0, 0, 0],
        [2, 3, 0, 0, 0, 0, 0],
        [2, 5, 9, 6, 11, 4, 3],  # longer than the file's own truncation to 5
    ]
    assert tokens.mask.sum(axis=1).tolist() == [4, 2, 7]
    assert (tokens.ids.dtype, tokens.mask.dtype) == (np.int32, np.bool_)


def test_truncates_counts_and_warns_once(path, caplog):
    tokenizer = JsonTokenizer(path, 4)
    with caplog.at_level(logging.WARNING):
        tokens = tokenizer(["the red fox", "a fox", "on the cat", "the blue owl on"])
    assert tokens.ids[0].tolist() == [2, 5, 9, 3]  # still closed by [SEP]
    assert tokens.ids[1].tolist() == [2, 4, 6, 3]  # exactly full is not cut
    assert tokenizer.num_truncated == 3
    assert len(caplog.records) == 1
    assert "'the red fox'" in caplog.text


def test_refuses_a_length_without_room_for_words(path):
    with pytest.raises(UserError, match="max_length is 2; it must be at least 3"):
        JsonTokenizer(path, 2)


def test_refuses_another_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is not a tokenizer"):
        JsonTokenizer(tmp_path / "tokenizer.json", 8)


def test_names_the_extra_when_the_package_is_missing(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"imagen_jax\[quickstart\]"):
        JsonTokenizer(path, 8)
