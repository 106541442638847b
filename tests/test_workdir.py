"""Workdirs in a bucket, and local copies of them; the bucket is fsspec's memory."""

import pytest

from imagen_jax.data.checkpoint_parts import CheckpointParts
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError
from imagen_jax.workdir import Workdir, local_copy, open_workdir
from tests.emulators import empty_memory

URL = "memory://run"


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    empty_memory()
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))


def put_checkpoint(folder, step, loss, text="weights"):
    part = folder / f"{step}-{text}"
    part.mkdir()
    (part / "file").write_text(text)
    parts = CheckpointParts(f"{URL}/checkpoints", 0, 1)
    parts.put(step, text, part)
    parts.commit(step, text, loss)


def test_a_path_is_the_folder_itself(tmp_path):
    workdir = open_workdir(tmp_path / "run")
    assert isinstance(workdir, Workdir)
    assert workdir.shared
    assert workdir.path == str(tmp_path / "run")
    workdir.fetch()
    (workdir.local / "config.json").write_text("{}")
    workdir.fetch()
    workdir.clean()
    workdir.sync()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


def test_what_process_0_wrote_is_uploaded_and_again_when_it_changes(monkeypatch):
    workdir = open_workdir(URL + "/")
    assert not workdir.shared
    workdir.fetch()
    for name in ("logs/events.1", "wandb/log", "checkpoints/3/x", ".claim-7"):
        (workdir.local / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir.local / name).write_text(name)
    metrics = workdir.local / "metrics.jsonl"
    metrics.write_text("1\n")
    workdir.sync()
    root = open_folder(URL)
    assert root.names() == {"logs", "metrics.jsonl"}
    assert root.read("logs/events.1") == b"logs/events.1"
    root.write("logs/events.1", b"as it was")
    metrics.write_text("1\n2\n")
    workdir.sync()
    assert root.read("metrics.jsonl") == b"1\n2\n"
    assert root.read("logs/events.1") == b"as it was"  # unchanged here: not sent again


def test_another_start_has_what_it_goes_on_from_and_nothing_else():
    first = open_workdir(URL)
    first.fetch()
    for name in ("config.json", "metrics.jsonl", "wandb_run.json", "other"):
        (first.local / name).write_text(name)
    first.sync()
    second = open_workdir(URL)
    second.fetch()
    found = {p.name: p.read_text() for p in second.local.iterdir()}
    resumed = ("config.json", "metrics.jsonl", "wandb_run.json")
    assert found == {name: name for name in resumed}


def test_other_processes_upload_no_small_files(monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    open_folder(URL).write("config.json", b"{}")
    workdir = open_workdir(URL)
    workdir.fetch()
    assert not list(workdir.local.iterdir())
    (workdir.local / "metrics.jsonl").write_text("1\n")
    workdir.sync()
    workdir.clean()
    assert open_folder(URL).names() == {"config.json"}


def test_clean_deletes_what_is_incomplete(tmp_path):
    put_checkpoint(tmp_path, 5, None)
    open_folder(f"{URL}/checkpoints/6").write("part-00000-of-00001-x.tar", b"x")
    workdir = open_workdir(URL)
    workdir.fetch()
    workdir.clean()
    assert workdir.checkpoints.losses() == {5: None}
    assert open_folder(f"{URL}/checkpoints/6").names() == set()
    assert ".claim" not in open_folder(URL).names()


def test_two_urls_have_two_local_folders():
    assert open_workdir(URL).local != open_workdir(URL + "2").local


def test_a_local_copy_of_the_newest_or_the_best_checkpoint(tmp_path):
    open_folder(URL).write("config.json", b"{}")
    put_checkpoint(tmp_path, 5, 0.1)
    put_checkpoint(tmp_path, 9, 0.2)
    for choice, step in ((None, 9), ("best", 5), (9, 9)):
        copy = local_copy(URL, choice)
        assert (copy / "config.json").read_text() == "{}"
        assert [p.name for p in (copy / "checkpoints").iterdir()] == [str(step)]
        assert (copy / "checkpoints" / str(step) / "file").read_text() == "weights"
    assert local_copy(tmp_path) == tmp_path


def test_a_local_copy_is_made_anew_only_when_the_checkpoint_is_another(tmp_path):
    open_folder(URL).write("config.json", b"{}")
    put_checkpoint(tmp_path, 5, None)
    file = local_copy(URL) / "checkpoints" / "5" / "file"
    file.write_text("changed here")
    local_copy(URL)
    assert file.read_text() == "changed here"
    put_checkpoint(tmp_path, 5, None, "trained again")
    local_copy(URL)
    assert file.read_text() == "trained again"


def test_a_bundle_has_no_checkpoints(tmp_path):
    root = open_folder(URL)
    root.write("config.json", b"{}")
    root.write("ema.safetensors", b"tensors")
    assert (local_copy(URL) / "ema.safetensors").read_bytes() == b"tensors"
    root.delete("ema.safetensors")  # a run takes the place of the bundle
    put_checkpoint(tmp_path, 5, None)
    assert not (local_copy(URL) / "ema.safetensors").exists()


@pytest.mark.parametrize(
    ("files", "url", "message"),
    [
        ((), URL, "memory://run has no config.json; give the workdir of a training"),
        (("config.json",), URL, "memory://run has no complete checkpoint; train it"),
        ((), "ftpx://run", "ftpx://run cannot be opened"),
    ],
)
def test_nothing_to_copy_is_one_sentence(files, url, message):
    for name in files:
        open_folder(url).write(name, b"{}")
    with pytest.raises(UserError, match=message):
        local_copy(url)
