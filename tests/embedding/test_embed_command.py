import sys

import pytest

from imagen_jax import embed
from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.records import Record
from imagen_jax.data.sources.opening import parse_tfds
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.embedding import sources
from imagen_jax.errors import run_command
from imagen_jax.text import catalog, minilm
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

    monkeypatch.setattr(sources, "TfdsSource", open_split)
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


def test_a_column_of_a_table_by_any_weights(run, tmp_path):
    file, store = tmp_path / "captions.csv", tmp_path / "store"
    file.write_text('id,text\n1,"a fox, red"\n2,a cat\n')
    folder = write_folder(tmp_path / "other")
    status, out, _ = run(
        f"--captions={file}",
        "--column=text",
        f"--store={store}",
        "--encoder=my_bert",
        f"--weights={folder}",
        "--max_length=8",
        "--dtype=int8",
        "--num_shards=3",
        "--cleaning=basic",
    )
    assert (status, out.split(" in ")[0]) == (
        0,
        "embedded 2 distinct captions with my_bert",
    )
    manifest = EmbeddingStore(store).manifest
    assert (manifest.encoder, manifest.dtype) == ("my_bert", "int8")
    assert (manifest.num_shards, manifest.cleaning) == (3, "basic")
    EmbeddingStore(store).lookup(["a fox, red", "a cat"])


def test_machines_that_do_not_know_of_each_other_fill_one_store(run, tmp_path):
    store = tmp_path / "store"
    flags = ("--source=synthetic:40:16", f"--store={store}", "--max_length=8")
    status, out, _ = run(*flags, "--num_shards=3", "--hosts=1/2")
    assert status == 0
    assert "the last one finishes the store" in out
    status, _, last = run("--verify", f"--store={store}")
    assert status == 2
    assert "no manifest.json, though one was begun" in last
    status, out, _ = run(*flags, "--num_shards=3", "--hosts=0/2")
    assert (status, "the last one" in out) == (0, False)
    status, out, _ = run("--verify", f"--store={store}")
    assert status == 0
    assert out.startswith("all is well: ")


def test_a_process_among_others_stays_until_all_are_done(run, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(embed, "join_hosts", lambda *flags: (1, 2))
    monkeypatch.setattr(embed, "wait_until_finished", waited.append)
    flags = ("--source=synthetic:40:16", f"--store={tmp_path / 'store'}")
    flags = (*flags, "--max_length=8", "--num_shards=2", "--coordinator=auto")
    assert run(*flags)[0] == 0
    assert waited == [str(tmp_path / "store")]


def test_a_bad_shard_ends_the_check_in_one_sentence(run, tmp_path):
    store = tmp_path / "store"
    run("--source=synthetic:8:16", f"--store={store}", "--max_length=8")
    path = store / "shard-00000-of-00001.array_record"
    path.write_bytes(path.read_bytes()[:-1000])
    status, out, last = run("--verify", f"--store={store}")
    assert status == 2
    assert "shard-00000-of-00001: its .array_record differs from its checksum" in out
    assert last.startswith("error: 1 of 1 shards of")
    assert "run the command that made the store" in last


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--source=nosuch:x"],
            "the data source is 'nosuch:x'; give ",
        ),
        (["--captions=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--captions={latin}"], "line 1 is not UTF-8"),
        (["--captions={empty}"], "there are no captions to embed"),
        (["--captions={half}"], "has half a character"),
        (["--captions={good}", "--column=text"], "has no columns"),
        (["--source=synthetic:8:16", "--column=text"], "a column of --captions=FILE"),
        (["--captions={good}", "--encoder=t6"], "there is no text encoder 't6'"),
        (["--captions={good}", "--max_length=2"], "must be at least 3"),
        (["--captions={good}", "--max_length=40"], "minilm has 16 positions"),
        (["--captions={good}", "--cleaning=all"], "cleaning"),
        (["--captions={good}", "--dtype=int4"], "'int4'; give bfloat16 or int8"),
        (["--captions={good}", "--compute_dtype=float16"], "dtype is 'float16'"),
        (["--captions={good}", "--num_shards=0"], "num_shards is 0; give at least 1"),
        (["--captions={good}", "--batch_size=12"], "must be a multiple of 8"),
        (["--captions={good}", "--hosts=2/2"], "host 2 of 2; give an index"),
        (["--captions={good}", "--hosts=first"], "--hosts is 'first'; give I/N"),
        (["--captions={good}", "--coordinator=a:1"], "needs --num_processes"),
        (["--captions={good}", "--store=xyz://a/b"], "give a local folder, gs://"),
        (["--verify"], "is no finished embedding store"),
        (["--captions={good}", "--source=tfds:x"], "not allowed with argument"),
        ([], "one of the arguments --source --captions --verify is required"),
    ],
)
def test_bad_input_ends_in_one_sentence(run, tmp_path, flags, text):
    files = {
        "latin": "caf\xe9".encode("latin-1"),
        "empty": b"\n\n",
        "half": b'{"caption": "\\ud800"}',
        "good": b"a fox\n",
    }
    paths = {name: tmp_path / name for name in files}
    paths["half"] = tmp_path / "half.jsonl"
    for name, contents in files.items():
        paths[name].write_bytes(contents)
    flags = [flag.format(**paths) for flag in flags]
    status, _, last = run("--max_length=8", f"--store={tmp_path / 'store'}", *flags)
    assert status == 2
    assert text in last
    assert not (tmp_path / "store").exists()


def test_the_help_lists_every_encoder(run):
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in catalog.NAMES)
