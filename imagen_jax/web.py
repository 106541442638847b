"""What all web pages of this package are served by: a socket and a server."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imagen_jax.errors import UserError

if TYPE_CHECKING:
    import uvicorn


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that others can already connect to.

    Raises:
      UserError: if the address is taken, not this machine's or not allowed.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"--port is {port}; it must be from 0 to 65535 (0: a free one)")
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error}); choose another --port or "
            "--host"
        ) from error


def make_server(
    app: Any, on_stop: Callable[[], None] = lambda: None
) -> "uvicorn.Server":
    """Returns the server; `run(sockets=[...])` answers until SIGINT or SIGTERM.

    Args:
      app: an ASGI application.
      on_stop: called in the server's event loop when it is told to stop, before it
        waits for the answers that are under way.
    """
    import uvicorn  # comes with the extras that serve pages

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            on_stop()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        log_config=None,  # uvicorn's own would close the handlers of this process
        log_level="warning",
        access_log=False,  # its lines would hold the raters' links
        server_header=False,
        limit_concurrency=1000,
        timeout_graceful_shutdown=5,  # a page may hold its connection for hours
    )
    return Server(config)
