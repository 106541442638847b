"""Checks on seqio itself what test_seqio_task.py checks on a stand-in.

    python -m tests.data.sources.on_seqio SPIECE_MODEL

Run by the test marked `tensorflow`; prints "seqio agrees" if all is well.
"""

import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
import seqio
import tensorflow as tf

from imagen_jax.data.sources.seqio_task import parse_seqio, seqio_captions
from imagen_jax.errors import UserError
from imagen_jax.text.tokenizer import load_tokenizer
from tests.text.toy_vocabularies import TEXTS


def add_task(name: str, texts: dict[str, list[str]], model: str) -> None:
    """Registers a task with a text and a tokenized feature."""
    vocabulary = seqio.SentencePieceVocabulary(model, extra_ids=10)

    def examples(split, shuffle_files):
        return tf.data.Dataset.from_tensor_slices({"caption": texts[split]})

    @seqio.map_over_dataset
    def tokenize(example):
        return {**example, "ids": vocabulary.encode_tf(example["caption"])}

    source = seqio.FunctionDataSource(examples, splits=list(texts))
    features = {"ids": seqio.Feature(vocabulary)}
    seqio.TaskRegistry.add(name, source, features, [tokenize])


def read(text: str) -> list[str]:
    """Returns the captions that `text` names."""
    return list(seqio_captions(*parse_seqio(text)))


def check_refused(action: Callable[[], object], part: str) -> None:
    """Checks that `action` ends in one sentence with `part` in it."""
    with pytest.raises(UserError, match=re.escape(part)) as raised:
        action()
    assert "\n" not in str(raised.value)


def check_tasks(model: str) -> None:
    """Checks captions of tasks and of a mixture."""
    texts = [*TEXTS, ""]
    add_task("one:a", {"train": texts, "test": ["x"]}, model)
    add_task("two", {"train": ["y", "z"]}, model)
    seqio.MixtureRegistry.add("both", ["one:a", "two"], default_rate=1.0)
    assert read("seqio:one:a:train:caption") == texts
    assert read("seqio:both:train") == [*texts, "y", "z"]
    assert read("seqio:both:test") == ["x"]
    for text, part in {
        "seqio:nothing:train": "knows no Task or Mixture 'nothing'",
        "seqio:two:test": "no split 'test'; give one of train",
        "seqio:two:train:ids": "no text feature 'ids'; it has caption",
    }.items():
        check_refused(lambda text=text: read(text), part)


def check_vocabulary(model: str) -> None:
    """Checks ids and identity against the model read without seqio."""
    vocabulary = seqio.SentencePieceVocabulary(model)
    ours, wanted = (load_tokenizer("t5", f"{p}{model}", 40) for p in ("seqio:", ""))
    assert ours.id == wanted.id, (ours.id, wanted.id)
    tokens = ours(TEXTS)
    for a, b in zip(tokens, wanted(TEXTS), strict=True):
        np.testing.assert_array_equal(a, b)
    for text, ids, mask in zip(TEXTS, *tokens, strict=True):
        assert ids[mask].tolist() == [*vocabulary.encode(text)[:39], 1], text
    for bad in (f"{model}.gone", __file__):
        load = f"seqio:{bad}"
        check_refused(lambda p=load: load_tokenizer("t5", p, 12), "cannot be read")


if __name__ == "__main__":
    check_tasks(sys.argv[1])
    check_vocabulary(sys.argv[1])
    print("seqio agrees")
