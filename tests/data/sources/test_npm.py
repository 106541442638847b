import pytest

from imagen_jax.data.sources.npm import NpmPackage, fetch, read_members
from imagen_jax.errors import UserError
from tests.data.sources.npm_packages import integrity, tarball

DATA = tarball({"a/1.txt": b"one", "b/2.txt": b"two"})
PACKAGE = NpmPackage("@scope/thing", "1.2.3", integrity(DATA))


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_registry", f"file://{tmp_path}/registry")
    path = tmp_path / "registry" / "@scope" / "thing" / "-" / "thing-1.2.3.tgz"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return path


def test_a_package_is_fetched_once(tmp_path, registry):
    path = fetch(PACKAGE)
    assert path == tmp_path / "cache" / "npm" / "@scope" / "thing-1.2.3.tgz"
    assert path.read_bytes() == DATA
    registry.unlink()
    assert fetch(PACKAGE) == path
    assert [*path.parent.iterdir()] == [path]
    assert dict(read_members(path, "package/a/")) == {"1.txt": b"one"}


def test_another_file_is_refused_and_not_kept(tmp_path, registry):
    registry.write_bytes(DATA + b"x")
    with pytest.raises(UserError, match=r"is not @scope/thing 1\.2\.3: its SHA-512 is"):
        fetch(PACKAGE)
    assert not (tmp_path / "cache").exists()


def test_a_damaged_copy_is_refused(registry):
    path = fetch(PACKAGE)
    path.write_bytes(DATA[:-1])
    with pytest.raises(UserError, match=r"thing-1\.2\.3\.tgz is not .*delete it"):
        fetch(PACKAGE)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///none", "nothing"])
def test_no_registry_says_where_to_put_the_file(registry, monkeypatch, url):
    monkeypatch.setenv("npm_config_registry", url)
    with pytest.raises(UserError, match=r"cannot be fetched.*put that file at .*tgz"):
        fetch(PACKAGE)
