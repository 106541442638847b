"""Weights by path and by URL, from a server on this machine."""

import functools
import hashlib
import http.server
import threading

import pytest

from imagen_jax.errors import UserError
from imagen_jax.features.fetching import find_file, folder_sha256

DATA = b"weights" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Yields the URL of a folder with a.pth, and a list of the paths asked for."""
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.pth").write_bytes(DATA)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_):
            asked.append(self.path)

        def log_error(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_a_url_is_fetched_once_and_checked(server, tmp_path):
    url, asked = server
    for _ in range(2):
        found = find_file(f"{url}/a.pth#sha256={SHA256.upper()}")
        assert found.path.read_bytes() == DATA
        assert found.sha256 == SHA256
    assert asked == ["/a.pth"]
    assert list((tmp_path / "cache" / "weights").iterdir()) == [found.path]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"a.pth#sha256={'0' * 64}", f"has the sha256 {SHA256}, not 0000"),
        (f"b.pth#sha256={SHA256}", "b.pth could not be fetched .*404.*put it at"),
        ("a.pth", "has no checksum"),
        (f"a#sha256={SHA256}", "does not end in .pth"),
    ],
)
def test_bad_urls(server, tmp_path, name, text):
    url, _ = server
    with pytest.raises(UserError, match=text):
        find_file(f"{url}/{name}")
    folder = tmp_path / "cache" / "weights"
    names = [path.name for path in folder.glob("*")] if folder.is_dir() else []
    assert all(name.endswith(".partial") for name in names)


def test_a_path_with_and_without_checksum(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(DATA)
    assert find_file(str(path)) == find_file(f"{path}#sha256={SHA256}")
    with pytest.raises(UserError, match="give the file that the checksum is of"):
        find_file(f"{path}#sha256={'1' * 64}")


def test_a_folder_is_known_by_its_weights(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(DATA)
    (tmp_path / "README.md").write_text("1")
    before = folder_sha256(tmp_path)
    lines = f"{SHA256}  a.safetensors\n".encode()
    assert before == hashlib.sha256(lines).hexdigest()
    (tmp_path / "README.md").write_text("2")
    assert folder_sha256(tmp_path) == before
    (tmp_path / "b.safetensors").write_bytes(DATA)
    assert folder_sha256(tmp_path) != before
