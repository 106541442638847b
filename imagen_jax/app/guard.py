"""What surrounds every route: the size of a request, and what a page may load."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from imagen_jax.optional import import_optional

import_optional("fastapi", "app")  # a sentence where it is missing

from fastapi.responses import JSONResponse  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Gradio's pages have scripts and styles in them, and compile small functions. Nothing
# comes from another host.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: Callable[..., Awaitable[None]], num_bytes: int):
        """Surrounds `app`.

        Args:
          app: what answers.
          num_bytes: of a request's body, at most; larger ones get status 413.
        """
        self._app = app
        self._num_bytes = num_bytes
        self._sentence = (
            f"the request is larger than {num_bytes} bytes; send a smaller picture"
        )

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        num_read = 0

        async def receive_some() -> Message:
            nonlocal num_read
            message = await receive()
            num_read += len(message.get("body", b""))
            if num_read > self._num_bytes:  # more than it had announced
                raise HTTPException(413, self._sentence)
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        app = self._app
        if _announced(scope) > self._num_bytes:
            app = JSONResponse({"error": self._sentence}, 413, {"Connection": "close"})
        await app(scope, receive_some, send_with_headers)


def _announced(scope: MutableMapping[str, Any]) -> int:
    """Returns the Content-Length of a request, 0 where it does not say."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(lengths[0]) if lengths and lengths[0].isdigit() else 0
