import sys

import pytest

from imagen_jax import embed
from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.records import Record
from imagen_jax.data.sources.opening import parse_tfds
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.errors import run_command
from imagen_jax.text import encoder, minilm
from tests.text.tiny_bert import write_folder


@pytest.fixture(autouse=True)
def tiny_minilm(tmp_path, monkeypatch):
    """The command, with a tiny BERT in the place of MiniLM."""
    folder = write_folder(tmp_path / "bert")
    monkeypatch.setattr(minilm, "fetch", lambda: folder)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command; returns (exit status, stdout, last line of stderr)."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["embed", *map(str, flags)])
        status = 0
        try:
            run_command(embed.main)
        except SystemExit as exit_:
            status = exit_.code
        printed = capsys.readouterr()
        return status, printed.out, (printed.err.splitlines() or [""])[-1]

    return run


def test_embeds_a_text_file_once(run, tmp_path):
    file, store = tmp_path / "captions.txt", tmp_path / "store"
    file.write_bytes(b"\xef\xbb\xbfa fox\r\n\nthe cat on a red fox on a fox\na fox")
    flags = (f"--captions={file}", f"--store={store}", "--max_length=8")
    status, out, progress = run(*flags)
    assert status == 0
    assert "embedded 2 distinct captions with minilm" in out
    assert "1 of them were cut to 8 tokens" in out
    assert "2/2" in progress
    _, mask = EmbeddingStore(store).lookup(["a fox"])
    assert mask.sum() == 4
    assert run(*flags)[:2] == (0, f"the store has all 2 captions: {store}\n")


def test_unites_the_splits_of_a_data_set(run, tmp_path, monkeypatch):
    splits = {"train": ["a fox", "red"], "held_out": ["a cat", "red"]}

    def open_split(name, split):
        assert name == "shapes/small"
        return [Record(b"", caption, "") for caption in splits[split]]

    monkeypatch.setattr(embed, "TfdsSource", open_split)
    source, store = "--source=tfds:shapes/small:train,held_out", tmp_path / "store"
    status, out, _ = run(source, f"--store={store}", "--max_length=8")
    assert (status, out.split(" with")[0]) == (0, "embedded 3 distinct captions")
    EmbeddingStore(store).lookup(["a fox", "a cat", "red"])


def test_takes_any_source_of_a_config(run, tmp_path):
    store = tmp_path / "store"
    run("--source=synthetic:8:16", f"--store={store}", "--max_length=16")
    captions = {record.caption for record in SyntheticSource(8, 16, seed=0)}
    assert EmbeddingStore(store).manifest.num_captions == len(captions)
    EmbeddingStore(store).lookup(sorted(captions))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tfds:openmoji/default", ("openmoji/default", ["train"])),
        ("tfds:openmoji/default:1.0.0", ("openmoji/default:1.0.0", ["train"])),
        ("tfds:/data/set/1.0.0:held_out", ("/data/set/1.0.0", ["held_out"])),
        ("tfds:gs://bucket/set", ("gs://bucket/set", ["train"])),
        ("tfds:gs://bucket/set:train,test", ("gs://bucket/set", ["train", "test"])),
        ("tfds:set:train[:10%],test[5:]", ("set", ["train[:10%]", "test[5:]"])),
    ],
)
def test_parses_a_source(text, expected):
    assert parse_tfds(text) == expected


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--source=webdataset:x"],
            "'webdataset:x'; give tfds:DIR_OR_NAME",
        ),
        (["--captions=nowhere.txt"], "--captions=nowhere.txt cannot be read"),
        (["--captions={latin}"], "is not UTF-8"),
        (["--captions={empty}"], "there are no captions to embed"),
        (["--captions={good}", "--encoder=t6"], "there is no text encoder 't6'"),
        (["--captions={good}", "--max_length=2"], "must be at least 3"),
        (["--captions={good}", "--max_length=40"], "minilm has 16 positions"),
        (["--captions={good}", "--source=tfds:x"], "not allowed with argument"),
        ([], "one of the arguments --source --captions is required"),
    ],
)
def test_bad_input_ends_in_one_sentence(run, tmp_path, flags, text):
    files = {"latin": "caf\xe9".encode("latin-1"), "empty": b"\n\n", "good": b"a fox\n"}
    for name, contents in files.items():
        (tmp_path / name).write_bytes(contents)
    paths = {name: tmp_path / name for name in files}
    flags = [flag.format(**paths) for flag in flags]
    status, _, last = run("--max_length=8", f"--store={tmp_path / 'store'}", *flags)
    assert status == 2
    assert text in last
    assert not (tmp_path / "store").exists()


def test_the_help_lists_every_encoder(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in encoder.NAMES)
