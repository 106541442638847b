"""Captions from seqio, and a vocabulary of it as a tokenizer.

seqio brings TensorFlow, so most tests run on a stand-in with the few functions that are
used; those marked `tensorflow` check the same on seqio itself.
"""

import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sentencepiece

from imagen_jax.data.sources.seqio_task import SeqioName, parse_seqio, seqio_captions
from imagen_jax.errors import UserError
from imagen_jax.text.tokenizer import load_tokenizer
from imagen_jax.text.tokenizer_sentencepiece import SeqioTokenizer
from tests.text.toy_vocabularies import TEXTS, write_spiece

ROOT = Path(__file__).parents[3]


class Task(NamedTuple):
    """As seqio's Task: `data` holds a list of examples, or an error, of each split."""

    name: str
    data: dict
    splits: tuple[str, ...] = ("train", "test")

    def get_dataset(self, sequence_length, split, shuffle, num_epochs):
        assert (sequence_length, shuffle, num_epochs) == (None, False, 1)
        found = self.data[split]
        if isinstance(found, Exception):
            raise found
        return types.SimpleNamespace(as_numpy_iterator=lambda: iter(found))


class Mixture(NamedTuple):
    name: str
    tasks: list[Task]
    splits: tuple[str, ...] = ("train", "test")


class SentencePieceVocabulary:
    pad_id = 0

    def __init__(self, sentencepiece_model_file):
        self.sentencepiece_model_file = str(sentencepiece_model_file)

    @property
    def _processor(self):
        return sentencepiece.SentencePieceProcessor(
            model_file=self.sentencepiece_model_file
        )

    @property
    def sp_model(self):
        return Path(self.sentencepiece_model_file).read_bytes()

    @property
    def eos_id(self):
        return self._processor.eos_id()

    def encode(self, text):
        return self._processor.encode(text)


def captions(*texts):
    return [{"caption": t.encode(), "ids": np.zeros(3, int), "n": 1} for t in texts]


@pytest.fixture
def registry(monkeypatch):
    """The names that the stand-in for seqio knows; what is put in is registered."""
    known = {}

    def get_mixture_or_task(name):
        if name not in known:
            raise ValueError(f"No Task or Mixture found with name '{name}'.")
        return known[name]

    seqio = types.ModuleType("seqio")
    seqio.get_mixture_or_task = get_mixture_or_task
    seqio.get_subtasks = lambda found: getattr(found, "tasks", [found])
    seqio.SentencePieceVocabulary = SentencePieceVocabulary
    monkeypatch.setitem(sys.modules, "seqio", seqio)
    return known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seqio:foxes:train", ("foxes", "train", "caption", "")),
        ("seqio:foxes:test:text", ("foxes", "test", "text", "")),
        ("seqio:my.tasks@foxes:train", ("foxes", "train", "caption", "my.tasks")),
        ("seqio:foxes:train[:10%]", ("foxes", "train[:10%]", "caption", "")),
        ("seqio:foxes:train[5:9]:text", ("foxes", "train[5:9]", "text", "")),
        ("seqio:m@a:b.c:train:text", ("a:b.c", "train", "text", "m")),
    ],
)
def test_parses_a_name(text, expected):
    assert parse_seqio(text) == SeqioName(*expected)


@pytest.mark.parametrize(
    "text",
    ["seqio:foxes", "seqio::train", "seqio:a@b@c:train", "tfds:x:train", "seqio"],
)
def test_another_form_is_refused(text):
    with pytest.raises(UserError, match=r"give seqio:\[MODULE@\]NAME:SPLIT"):
        parse_seqio(text)


def test_yields_the_captions_of_a_task(registry):
    examples = captions("a fox", "", "a föx ")
    registry["foxes"] = Task("foxes", {"train": examples, "test": captions("b")})
    assert list(seqio_captions("foxes", "train")) == ["a fox", "", "a föx "]
    assert list(seqio_captions(*parse_seqio("seqio:foxes:test"))) == ["b"]


def test_a_mixture_gives_each_task_once(registry):
    red = Task("red", {"train": captions("r", "s")})
    blue = Task("blue", {"train": captions("b")})
    other = Task("other", {}, splits=("test",))  # has no such split
    unknown = Task("unknown", {"train": captions("u")}, splits=())  # not yet fetched
    registry["colours"] = Mixture("colours", [red, blue, other, unknown])
    assert list(seqio_captions("colours", "train")) == ["r", "s", "b", "u"]


def test_examples_are_read_when_asked_for(registry):
    def endless():
        while True:
            yield from captions("a fox")

    registry["foxes"] = Task("foxes", {"train": endless()})
    stream = seqio_captions("foxes", "train")
    assert [next(stream), next(stream)] == ["a fox", "a fox"]


def test_importing_a_module_registers_its_tasks(registry, tmp_path, monkeypatch):
    module = "from tests_registry import add\nadd()\n"
    (tmp_path / "fox_tasks.py").write_text(module)
    adder = types.ModuleType("tests_registry")
    task = Task("foxes", {"train": captions("a fox")})
    adder.add = lambda: registry.update(foxes=task)
    monkeypatch.setitem(sys.modules, "tests_registry", adder)
    monkeypatch.syspath_prepend(tmp_path)
    name = parse_seqio("seqio:fox_tasks@foxes:train")
    assert list(seqio_captions(*name)) == ["a fox"]
    monkeypatch.delitem(sys.modules, "fox_tasks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("owls:train", "seqio knows no Task or Mixture 'owls'; give"),
        ("nowhere.tasks@foxes:train", r"nowhere\.tasks that reg.* \(No module named"),
        ("foxes:valid", "'foxes' has no split 'valid'; give one of train, test"),
        ("foxes:train:text", "'foxes' has no text feature 'text'; it has caption, so"),
        ("foxes:train:ids", "no text feature 'ids'; it has caption"),
        ("foxes:test", "split 'test' of .* cannot be read: OSError: disk on fire;"),
        ("latin:train", "'caption' of the seqio task 'latin' holds .* not UTF-8"),
    ],
)
def test_bad_input_is_one_sentence(registry, text, message):
    error = OSError("disk on fire\nand more")
    registry["foxes"] = Task("foxes", {"train": captions("a"), "test": error})
    registry["latin"] = Task("latin", {"train": [{"caption": b"caf\xe9"}]})
    with pytest.raises(UserError, match=message) as raised:
        list(seqio_captions(*parse_seqio(f"seqio:{text}")))
    assert "\n" not in str(raised.value)


def test_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "seqio", None)
    with pytest.raises(UserError, match=r"imagen_jax\[seqio\]"):
        next(seqio_captions("foxes", "train"))
    with pytest.raises(UserError, match=r"imagen_jax\[seqio\]"):
        load_tokenizer("t5", "seqio:x.model", 8)


@pytest.fixture
def vocabulary(registry, tmp_path, monkeypatch):
    """Path of a toy model, which the module `fox_vocabulary` holds too."""
    path = write_spiece(tmp_path)
    module = types.ModuleType("fox_vocabulary")
    module.VOCABULARY = SentencePieceVocabulary(path)
    module.get = lambda: module.VOCABULARY
    module.SIZE = 32
    monkeypatch.setitem(sys.modules, "fox_vocabulary", module)
    return path


@pytest.mark.parametrize(
    "name", ["{path}", "fox_vocabulary:VOCABULARY", "fox_vocabulary:get"]
)
def test_a_vocabulary_gives_the_ids_of_its_model(vocabulary, name):
    wanted = load_tokenizer("t5", vocabulary, 12)
    tokenizer = load_tokenizer("t5", f"seqio:{name.format(path=vocabulary)}", 12)
    assert type(tokenizer) is SeqioTokenizer
    assert tokenizer.id == wanted.id
    for ours, theirs in zip(tokenizer(TEXTS), wanted(TEXTS), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert tokenizer.num_truncated == wanted.num_truncated > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fox_vocabulary:SIZE", "is a int; give a seqio.SentencePieceVocabulary"),
        ("fox_vocabulary:NAME", "fox_vocabulary:NAME cannot be imported"),
        ("no_module:get", "no_module:get cannot be imported"),
        ("/nowhere/en.model", r"nowhere/en\.model cannot be read"),
    ],
)
def test_a_bad_vocabulary_is_one_sentence(vocabulary, name, message):
    with pytest.raises(UserError, match=message) as raised:
        SeqioTokenizer(name, 12)
    assert "\n" not in str(raised.value)


@pytest.mark.tensorflow
def test_all_of_it_on_seqio_itself(tmp_path):
    """Runs in a process of its own: TensorFlow stays out of this one."""
    pytest.importorskip("seqio", exc_type=ImportError)
    result = subprocess.run(
        [sys.executable, "-m", "tests.data.sources.on_seqio", write_spiece(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("seqio agrees\n")
