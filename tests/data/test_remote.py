"""Folders: this disk, and fsspec's memory in the place of a bucket."""

import os

import fsspec
import pytest

from imagen_jax.data.remote import BucketFolder, LocalFolder, open_folder
from imagen_jax.errors import UserError


@pytest.fixture(params=["local", "bucket"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    if request.param == "local":
        yield open_folder(tmp_path / "store")
        return
    yield open_folder("memory://bucket/some/store/")
    files = fsspec.filesystem("memory")
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)


def put(folder, name, data):
    with folder.scratch() as scratch:
        path = os.path.join(scratch, name)
        with open(path, "wb") as file:
            file.write(data)
        folder.put(path, name)
        assert not os.path.exists(path)


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_path_with_a_scheme_is_a_bucket(tmp_path):
    assert isinstance(open_folder(tmp_path), LocalFolder)
    assert isinstance(open_folder("memory://bucket/store"), BucketFolder)


def test_a_folder_that_is_not_there_is_empty(folder):
    assert folder.names() == set()
    assert folder.read("x") is None


def test_a_folder_in_the_place_of_a_small_file_is_one_sentence(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(UserError, match=r"x\.json cannot be read \(Is a directory\)"):
        LocalFolder(str(tmp_path)).read("x.json")


def test_small_files_are_written_and_replaced(folder):
    folder.write("x.json", b"1")
    folder.write("x.json", b"22")
    assert folder.read("x.json") == b"22"
    assert folder.names() == {"x.json"}


def test_only_the_first_creates(folder):
    assert folder.create("x.json", b"1")
    assert not folder.create("x.json", b"2")
    assert folder.read("x.json") == b"1"
    assert folder.names() == {"x.json"}


def test_large_files_are_put_whole(folder):
    put(folder, "x.bin", b"abc")
    assert folder.names() == {"x.bin"}
    assert contents(folder.local("x.bin", "0" * 64)) == b"abc"
    with folder.opened("x.bin") as path:
        assert contents(path) == b"abc"


def test_scratch_is_deleted_also_after_a_failure(folder):
    seen = []

    def fail():
        with folder.scratch() as scratch:
            seen.append(scratch)
            open(os.path.join(scratch, "x"), "w").close()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not os.path.exists(seen[0])
    assert folder.names() == set()


def test_a_missing_large_file_is_an_os_error(folder):
    with pytest.raises(OSError, match=r"x\.bin"):
        contents(folder.local("x.bin", "0" * 64))
    with pytest.raises(OSError, match=r"x\.bin"), folder.opened("x.bin") as path:
        contents(path)


def test_what_a_killed_job_left_is_cleaned_up(tmp_path):
    folder = LocalFolder(str(tmp_path))
    folder.write("x.json", b"1")
    left = tmp_path / "unfinished-abc"
    left.mkdir()
    (left / "shard").write_bytes(b"half")
    folder.clean()
    assert folder.names() == {"x.json"}


def test_a_bucket_is_copied_once_for_each_version(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path))
    folder = BucketFolder("memory://copies/store")
    put(folder, "x.bin", b"one")
    fetched = []
    get_file = folder._files.get_file
    monkeypatch.setattr(
        folder._files, "get_file", lambda *a: fetched.append(a) or get_file(*a)
    )
    first = folder.local("x.bin", "1" * 64)
    assert contents(folder.local("x.bin", "1" * 64)) == b"one"
    assert len(fetched) == 1
    assert first.startswith(str(tmp_path / "stores"))
    put(folder, "x.bin", b"two")
    assert contents(folder.local("x.bin", "2" * 64)) == b"two"
    other = BucketFolder("memory://copies/other")
    put(other, "x.bin", b"three")
    assert contents(other.local("x.bin", "1" * 64)) == b"three"


def test_an_interrupted_copy_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path))
    folder = BucketFolder("memory://interrupted/store")
    put(folder, "x.bin", b"whole")
    get_file = folder._files.get_file

    def interrupted(url, path):
        with open(path, "wb") as file:
            file.write(b"who")
        raise ConnectionResetError("gone")

    monkeypatch.setattr(folder._files, "get_file", interrupted)
    with pytest.raises(UserError, match=r"memory://.*\(ConnectionResetError: gone\)"):
        folder.local("x.bin", "1" * 64)
    monkeypatch.setattr(folder._files, "get_file", get_file)
    assert contents(folder.local("x.bin", "1" * 64)) == b"whole"


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match=r"xyz://.*give a local folder, gs://"):
        open_folder("xyz://bucket/store")


def test_a_missing_package_names_the_extra(monkeypatch):
    def url_to_fs(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", url_to_fs)
    with pytest.raises(UserError, match=r"Install s3fs.*imagen_jax\[cloud\]"):
        open_folder("s3://bucket/store")


def test_a_bucket_that_fails_is_named(monkeypatch):
    folder = BucketFolder("memory://bucket/store")
    monkeypatch.setattr(folder._files, "cat_file", lambda url: 1 / 0)
    with pytest.raises(
        UserError, match=r"memory://bucket/store cannot be used .*check"
    ):
        folder.read("x")
