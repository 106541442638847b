"""A stand-in for the Hugging Face hub: one repository, served over HTTP on 127.0.0.1.

It speaks what huggingface_hub asks of the hub for a download: a model's listing, its
tree, and its files with ETag and size.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

REPOSITORY = "someone/tiny-t5"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Serves `files`; see `serve`."""

    files: ClassVar[dict[str, bytes]]
    requests: ClassVar[list[str]]
    broken: ClassVar[set[str]]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps quiet."""

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        api = f"/api/models/{REPOSITORY}"
        file = re.fullmatch(f"/{REPOSITORY}/resolve/{COMMIT}/(.*)", path)
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.files]
            self.reply_json({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings})
        elif path == f"{api}/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in self.files.items()
            ]
            self.reply_json(entries)
        elif path.startswith(f"{api}/revision/"):
            self.fail("RevisionNotFound")
        elif file and file[1] in self.files:
            self.reply_file(file[1], with_body)
        else:
            self.fail("RepoNotFound")

    def reply_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def reply_file(self, name: str, with_body: bool) -> None:
        data = self.files[name]
        breaks = with_body and name in self.broken
        if breaks and name in self.requests:
            self.fail("")  # the first half came, and now nothing does
            return
        self.send_response(200)
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.requests.append(name)
            self.wfile.write(data[: len(data) // 2] if breaks else data)
            self.close_connection = breaks


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[tuple[str, type[Handler]]]:
    """Yields the hub's address, and a handler whose attributes may be changed.

    `requests` grows by the name of each file sent; one whose name is in `broken` breaks
    off after its first half, and is then refused.
    """
    attributes = {"files": dict(files), "requests": [], "broken": set()}
    handler = type("RepositoryHandler", (Handler,), attributes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
