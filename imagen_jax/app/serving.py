"""The page and the REST endpoint behind one socket."""

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from imagen_jax.app.requests import Limits
from imagen_jax.app.studio import Remarks, Studio
from imagen_jax.optional import import_optional
from imagen_jax.pipeline import Pipeline
from imagen_jax.web import listen, make_server

STEPS = (10, 25, 50)


def make_app(studio: Studio, credit: str = "") -> tuple[Any, Callable[[], None]]:
    """Returns the whole application (ASGI), and what lets its open pages go.

    Args:
      studio: draws.
      credit: at the foot of the page.
    """
    for package in ("gradio", "fastapi", "uvicorn"):
        import_optional(package, "app")
    # Late: Gradio takes seconds to import, and a wrong flag should be said at once.
    import gradio as gr
    from gradio.themes import Default

    from imagen_jax.app.guard import Guard
    from imagen_jax.app.page import STYLE, SYSTEM_FONT, make_page
    from imagen_jax.app.rest import make_rest

    app = gr.mount_gradio_app(
        make_rest(studio),
        make_page(studio, credit),
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=studio.limits.num_bytes,
        theme=Default(font=SYSTEM_FONT, font_mono=("monospace",)),
        css_paths=STYLE,
    )
    mounted: Any = app.routes[-1]

    def let_go() -> None:
        studio.queue.stop()
        mounted.app.stop_event.set()  # ends what an open page listens to

    return Guard(app, studio.limits.num_bytes), let_go


def serve(
    load_fn: Callable[[Remarks], Pipeline],
    *,
    host: str,
    port: int,
    queue_limit: int,
    batch_size: int,
    num_pictures: int,
    steps: tuple[int, ...] = STEPS,
    credit: str = "",
) -> None:
    """Serves a cascade until the process is told to stop.

    Args:
      load_fn: loads the cascade with this `say`.
      host: address to listen on.
      port: to listen on; 0 takes a free one.
      queue_limit: requests that may wait.
      batch_size: pictures in a call of a stage.
      num_pictures: of a request, at most.
      steps: numbers of steps that a request may ask for.
      credit: at the foot of the page.

    Raises:
      UserError: the address cannot be used, or as `load` and `Studio`.
    """
    with (
        listen(host, port) as listener,
        tempfile.TemporaryDirectory(prefix="imagen_jax_app_") as folder,
    ):
        os.environ["GRADIO_TEMP_DIR"] = folder  # its copies go when we do
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        remarks = Remarks()
        model = load_fn(remarks)
        limits = Limits(len(model.names), steps, num_pictures)
        studio = Studio(
            model,
            remarks,
            limits,
            queue_limit=queue_limit,
            batch_size=batch_size,
            folder=Path(folder),
        )
        with closing(studio.queue):
            server = make_server(*make_app(studio, credit))
            address = f"[{host}]" if ":" in host else host
            print(
                f"serving at http://{address}:{listener.getsockname()[1]}", flush=True
            )
            if not is_local(host):
                print(
                    f"--host={host} opens this to the network: whoever reaches the "
                    "port can draw, there is no login",
                    flush=True,
                )
            server.run(sockets=[listener])


def is_local(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
