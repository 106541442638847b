"""What a visitor sees while a request is drawn, without saying how it is shown."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.app.jobs import GivenUpError, Waiting
from imagen_jax.app.requests import read_request
from imagen_jax.app.studio import Arrived, Drawn, Studio
from imagen_jax.errors import UserError

TICK_SEC = 2.0


class View(NamedTuple):
    """What is to be shown.

    Attributes:
      text: a sentence on where the request is.
      stage: the stage that draws, from 0; None before the first and after the last.
      pictures: of each picture the latest stage's file; () changes nothing.
      is_refused: nothing was drawn, and `text` says why.
      drawn: at the end.
    """

    text: str
    stage: int | None = None
    pictures: tuple[Path, ...] = ()
    is_refused: bool = False
    drawn: Drawn | None = None


async def follow(studio: Studio, fields: Mapping[str, Any]) -> AsyncIterator[View]:
    """Yields what to show of a request, until it is drawn or refused.

    Closed early, it gives the request up.

    Args:
      studio: draws.
      fields: as `requests.read_request` takes them.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Any] = asyncio.Queue()

    def tell(event: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(events.put_nowait, event)

    try:
        request = await asyncio.to_thread(read_request, fields, studio.limits)
        job = studio.submit(request, tell)
    except UserError as error:
        yield View(str(error), is_refused=True)
        return
    job.done.add_done_callback(tell)
    num_stages, count = len(studio.model.names), len(request.seeds)
    latest: dict[int, Path] = {}
    try:
        view = View("")
        while not isinstance(event := await _next(events), Future):
            if isinstance(event, Waiting):
                view = View(_place(event.ahead), None if event.ahead else 0)
            elif isinstance(event, Arrived):
                numbers = range(event.start, event.start + len(event.files))
                latest |= dict(zip(numbers, event.files, strict=True))
                stage = min(event.stage + (numbers.stop == count), num_stages - 1)
                text = f"Drawing stage {stage + 1} of {num_stages}."
                view = View(text, stage, tuple(latest.values()))
            yield view
            view = view._replace(pictures=())
        yield _last_view(job.done)
    finally:
        job.give_up()


async def _next(events: asyncio.Queue[Any]) -> Any:
    """Returns the next event, or None after a while.

    A page that was closed is noticed only where something is sent to it.
    """
    try:
        return await asyncio.wait_for(events.get(), TICK_SEC)
    except TimeoutError:
        return None


def _place(ahead: int) -> str:
    if ahead == 0:
        return "Drawing."
    return f"Waiting; {ahead} request{'s' if ahead > 1 else ''} first."


def _last_view(done: Future[Any]) -> View:
    try:
        drawn: Drawn = done.result()
    except (UserError, GivenUpError) as error:
        return View(str(error) or "the server is stopping", is_refused=True)
    except Exception:  # its traceback is in the log
        text = "the drawing failed; see the log of the server"
        return View(text, is_refused=True)
    count = len(drawn.recipes)
    pictures = f"{count} picture{'s' if count > 1 else ''}"
    text = " ".join(
        (f"{pictures} in {drawn.seconds:.1f} s.", *map(_sentence, drawn.remarks))
    )
    return View(text, None, tuple(drawn.stages[-1]), drawn=drawn)


def _sentence(remark: str) -> str:
    return f"{remark[:1].upper()}{remark[1:]}."
