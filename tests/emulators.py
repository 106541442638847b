"""Buckets for tests: local servers of s3:// and gs://, and fsspec's memory.

The servers come with pip install "imagen_jax[cloud,emulators]".
"""

import contextlib
import logging
import secrets
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Starts a server; yields the environment in which s3:// is it."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }
    server.stop()


@contextlib.contextmanager
def gs_server() -> Iterator[dict[str, str]]:
    """Starts a server; yields the environment in which gs:// is it."""
    server = pytest.importorskip("gcp_storage_emulator.server")
    pytest.importorskip("gcsfs")
    server = server.create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    port = server._api._httpd.server_port
    yield {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        # Else gcsfs looks for credentials at each call, to ask what bucket it is.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "NO_GCE_CHECK": "true",
    }
    server.stop()


@contextlib.contextmanager
def new_bucket(scheme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Starts a server for this process and those that it starts.

    Yields the URL of an empty bucket.
    """
    import fsspec

    # It warns at every access that there are no credentials.
    logging.getLogger("gcsfs").setLevel(logging.ERROR)
    start = {"s3": s3_server, "gs": gs_server}[scheme]
    with start() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        kind = fsspec.get_filesystem_class(scheme)
        kind.clear_instance_cache()
        options = {"token": "anon", "project": "none"} if scheme == "gs" else {}
        # Servers of one process share their memory.
        name = f"bucket-{secrets.token_hex(4)}"
        kind(**options).mkdir(name)
        yield f"{scheme}://{name}"
        kind.clear_instance_cache()


def empty_memory() -> None:
    """Makes what memory:// reaches empty."""
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
