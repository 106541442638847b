"""Checkpoints in a bucket: what is complete, what is not, and what is damaged.

The bucket is fsspec's memory; the same on local servers of s3:// and gs:// is in
tests/training/test_bucket_workdir.py.
"""

import io
import tarfile

import pytest

from imagen_jax.data import checkpoint_parts
from imagen_jax.data.checkpoint_parts import CheckpointParts, Marker
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError
from tests.emulators import empty_memory

URL = "memory://run/checkpoints"


@pytest.fixture(autouse=True)
def memory():
    empty_memory()


def make_part(folder, process, text="x"):
    part = folder / f"of-process-{process}"
    part.mkdir()
    (part / "shared").write_text("same in all")
    (part / "sub").mkdir()
    (part / "sub" / str(process)).write_text(text)
    return part


def put(folder, step, process=0, of=1, start_id="a", text="x"):
    parts = CheckpointParts(URL, process, of)
    parts.put(step, start_id, make_part(folder, process, text))
    return parts


def test_a_checkpoint_is_there_once_its_marker_is(tmp_path):
    parts = put(tmp_path, 5)
    assert parts.losses() == {}
    assert parts.marker(5) is None
    parts.commit(5, "a", 0.25)
    assert parts.losses() == {5: 0.25}
    assert parts.marker(5) == Marker(["part-00000-of-00001-a.tar"], 0.25)
    assert list(tmp_path.iterdir()) == []
    parts.fetch(5, tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "0").read_text() == "x"


def test_parts_of_all_processes_are_laid_over_one_another(tmp_path):
    put(tmp_path, 5, 1, of=2)
    parts = put(tmp_path, 5, 0, of=2)
    parts.commit(5, "a", None)
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "old").write_text("of another checkpoint")
    CheckpointParts(URL, 0, 1).fetch(5, tmp_path / "back")  # by another number of them
    found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")]
    assert sorted(found) == ["back", "back/shared"] + [
        f"back/sub{name}" for name in ("", "/0", "/1")
    ]


def test_the_marker_waits_for_parts_of_this_start_only(tmp_path, monkeypatch):
    """Those of a killed start, or of another number of processes, are no help."""
    monkeypatch.setattr(checkpoint_parts, "COMMIT_SEC", 0.0)
    monkeypatch.setattr(checkpoint_parts, "POLL_SEC", 0.0)
    put(tmp_path, 5, 1, of=2, start_id="killed")
    put(tmp_path, 5, 1, of=3, start_id="b")
    parts = put(tmp_path, 5, 0, of=2, start_id="b")
    with pytest.raises(UserError, match=r"00001-of-00002-b.* was not uploaded in 0 s"):
        parts.commit(5, "b", None)
    assert parts.losses() == {}
    put(tmp_path, 5, 1, of=2, start_id="b", text="of b")
    parts.commit(5, "b", None)
    parts.fetch(5, tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "1").read_text() == "of b"


def test_what_is_incomplete_is_deleted_and_nothing_else(tmp_path):
    parts = put(tmp_path, 5)
    parts.commit(5, "a", None)
    put(tmp_path, 6)
    parts.delete_incomplete()
    assert open_folder(f"{URL}/6").names() == set()
    assert parts.losses() == {5: None}
    parts.fetch(5, tmp_path / "back")
    parts.delete(5)
    assert parts.losses() == {}
    assert open_folder(f"{URL}/5").names() == set()


def test_a_deletion_that_is_cut_short_leaves_no_complete_checkpoint(
    tmp_path, monkeypatch
):
    parts = put(tmp_path, 5)
    parts.commit(5, "a", None)
    monkeypatch.setattr(
        type(open_folder(URL)), "names", lambda _: (_ for _ in ()).throw(SystemExit)
    )
    with pytest.raises(SystemExit):
        parts.delete(5)
    assert parts.marker(5) is None


@pytest.mark.parametrize("data", [b"half", b"[]", b'{"parts": []}', b'{"a": 1}'])
def test_a_damaged_marker_is_named(data):
    open_folder(f"{URL}/5").write("complete.json", data)
    with pytest.raises(UserError, match=r"checkpoints/5/complete.json is damaged; del"):
        CheckpointParts(URL, 0, 1).losses()


def test_a_marker_cannot_name_files_elsewhere():
    data = b'{"parts": ["../../etc/x.tar"], "heldout_loss": null}'
    open_folder(f"{URL}/5").write("complete.json", data)
    with pytest.raises(UserError, match="is damaged"):
        CheckpointParts(URL, 0, 1).marker(5)


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_damaged_part_is_named(tmp_path, damage):
    parts = put(tmp_path, 5)
    parts.commit(5, "a", None)
    folder, name = open_folder(f"{URL}/5"), "part-00000-of-00001-a.tar"
    folder.delete(name) if damage == "lost" else folder.write(name, b"half")
    with pytest.raises(UserError, match=rf"5/{name} is missing or damaged .*; delete"):
        parts.fetch(5, tmp_path / "back")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("name", ["../escaped", "/escaped", "inside"])
def test_a_part_writes_plain_files_below_its_folder_only(tmp_path, name, kind):
    parts = put(tmp_path, 5)
    parts.commit(5, "a", None)
    member = tarfile.TarInfo(name if name[0] != "/" else f"{tmp_path}{name}")
    member.type, member.linkname = kind, str(tmp_path)
    with io.BytesIO() as data:
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.addfile(member)
        open_folder(f"{URL}/5").write("part-00000-of-00001-a.tar", data.getvalue())
    if (name, kind) == ("inside", tarfile.REGTYPE):
        parts.fetch(5, tmp_path / "back")
        assert (tmp_path / "back" / name).read_bytes() == b""
        return
    with pytest.raises(UserError, match="is no plain file of a checkpoint"):
        parts.fetch(5, tmp_path / "back")
    assert not (tmp_path / "escaped").exists()


def test_a_checkpoint_that_is_not_complete_cannot_be_fetched(tmp_path):
    parts = put(tmp_path, 5)
    with pytest.raises(UserError, match=r"5/complete.json is missing or damaged"):
        parts.fetch(5, tmp_path / "back")
