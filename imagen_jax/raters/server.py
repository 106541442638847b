"""The web application: a rater's link, the trials in order, one answer each.

    GET  /r/TOKEN                    consent, the next trial, or thanks
    POST /r/TOKEN/begin              consent given
    POST /r/TOKEN/answer             the answer of one trial, on the disk when 303 comes
    GET  /r/TOKEN/picture/POS/INDEX  a picture of the trial that the rater is at

A rater's state is only in the database, so any page can be loaded again at any time,
and an answer sent twice is one answer. No address has a file's name or path in it.
"""

import sys
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional
from imagen_jax.raters import pages
from imagen_jax.raters.limits import RateLimit
from imagen_jax.raters.pictures import ChangedPictureError, PictureReader
from imagen_jax.raters.plan import Trial, shown_pictures, shown_prompt
from imagen_jax.raters.settings import QUESTIONS
from imagen_jax.raters.store import Rater, Saved, Store, StoreError
from imagen_jax.raters.study import Study

for _package in ("fastapi", "uvicorn", "jinja2"):
    import_optional(_package, "raters")  # a sentence where it is missing

from fastapi import Depends, FastAPI, HTTPException, Request, Response  # noqa: E402
from fastapi.exceptions import RequestValidationError  # noqa: E402
from fastapi.responses import HTMLResponse, RedirectResponse  # noqa: E402
from starlette.exceptions import (  # noqa: E402
    HTTPException as AnyHTTPException,
)

MAX_BODY = 4096  # bytes; an answer has about 40


class Site:
    """What the routes share.

    Attributes:
      study: what is shown.
      store: raters and answers.
      pictures: the study's pictures.
      raters_limit: of requests of one rater. A DrawBench page takes 17.
      guesses_limit: of unknown links from one address. Links cannot be guessed; this
        keeps somebody who tries from taking the server's time.
    """

    def __init__(
        self,
        study: Study,
        store: Store,
        raters_limit: RateLimit | None = None,
        guesses_limit: RateLimit | None = None,
    ):
        """Serves `study` from `store`; None takes limits for people."""
        self.study = study
        self.store = store
        self.pictures = PictureReader(study.folder)
        self.raters_limit = raters_limit or RateLimit(burst=120, per_sec=20.0)
        self.guesses_limit = guesses_limit or RateLimit(burst=20, per_sec=0.5)
        self._reported: set[str] = set()

    def find_rater(self, token: str, request: Request) -> Rater:
        """Returns the rater of a link; raises 404 or 429."""
        rater = self.store.find_rater(token)
        if rater is None:
            client = request.client.host if request.client else ""
            raise HTTPException(404 if self.guesses_limit.allow(client) else 429)
        if not self.raters_limit.allow(str(rater.id)):
            raise HTTPException(429)
        return rater

    def current_trial(self, rater: Rater) -> Trial:
        """Returns the trial that the rater is at; 404 if there is none."""
        if not rater.consented or rater.position >= rater.num_trials:
            raise HTTPException(404)
        return self.store.trial(rater.id, rater.position)

    def show(self, token: str, rater: Rater) -> str:
        """Returns the page that the rater is at."""
        settings = self.study.settings
        if rater.position >= rater.num_trials:
            return pages.done_page(settings, rater)
        if not rater.consented:
            return pages.consent_page(settings, token, rater)
        trial = self.current_trial(rater)
        groups = shown_pictures(self.study, trial)
        self.check_pictures(trial)
        prompt = shown_prompt(self.study, trial)
        return pages.trial_page(settings, token, rater, prompt, [*map(len, groups)])

    def check_pictures(self, trial: Trial) -> None:
        """Raises `ChangedPictureError` if the trial cannot be shown as it was meant."""
        for group in shown_pictures(self.study, trial):
            for picture in group:
                self.pictures.check(picture)

    def save(self, rater: Rater, form: Mapping[str, str]) -> Saved:
        """Writes the answer of a form; raises 400 if it is none."""
        questions = QUESTIONS[self.study.settings.kind]
        position = form.get("position", "")
        if (
            set(form) != {"position", *questions}
            or any(form[name] not in allowed for name, allowed in questions.items())
            or not (position.isascii() and position.isdigit() and len(position) < 7)
        ):
            raise HTTPException(400)
        if int(position) == rater.position < rater.num_trials:
            self.check_pictures(self.current_trial(rater))
        return self.store.save(
            rater.id, int(position), {name: form[name] for name in questions}
        )

    def report(self, error: UserError) -> None:
        """Says once on stderr what has to be mended."""
        if str(error) not in self._reported:
            self._reported.add(str(error))
            print(f"error: {error}", file=sys.stderr, flush=True)


async def read_form(request: Request) -> dict[str, str]:
    """Returns a small form; raises 413 or 400."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413)
    try:
        pairs = parse_qsl(body.decode("ascii"), max_num_fields=8, strict_parsing=True)
    except ValueError as error:
        raise HTTPException(400) from error
    if len(dict(pairs)) < len(pairs):
        raise HTTPException(400)
    return dict(pairs)


def find_rater(token: str, request: Request) -> Rater:
    """Returns the rater of the link that was opened; raises 404 or 429."""
    return request.app.state.site.find_rater(token, request)


Known = Annotated[Rater, Depends(find_rater)]
Form = Annotated[dict[str, str], Depends(read_form)]


def make_app(site: Site) -> FastAPI:
    """Returns the application of one study."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site

    @app.get("/")
    def show_landing() -> HTMLResponse:
        return _page(pages.landing_page())

    @app.get("/r/{token}")
    def show(token: str, rater: Known) -> HTMLResponse:
        return _page(site.show(token, rater))

    @app.post("/r/{token}/begin")
    def begin(token: str, rater: Known) -> Response:
        site.store.consent(rater.id)
        return RedirectResponse(f"/r/{token}", 303)

    @app.post("/r/{token}/answer")
    def answer(token: str, rater: Known, form: Form) -> Response:
        if rater.consented and site.save(rater, form) in (Saved.OTHER, Saved.NOT_NEXT):
            return _page(pages.message_page(409, token), 409)
        return RedirectResponse(f"/r/{token}", 303)

    @app.get("/r/{token}/picture/{position}/{index}")
    def show_picture(rater: Known, position: int, index: int) -> Response:
        trial = site.current_trial(rater)
        groups = shown_pictures(site.study, trial)
        pictures = [picture for group in groups for picture in group]
        if position != rater.position or not 0 <= index < len(pictures):
            raise HTTPException(404)
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(site.pictures.read(pictures[index]), 200, headers, "image/png")

    @app.get("/{name}")
    def show_static(name: str) -> Response:
        if name not in pages.STATIC:
            raise HTTPException(404)
        headers = {"Cache-Control": "public, max-age=300"}
        return Response(pages.static_file(name), 200, headers, pages.STATIC[name])

    _handle_errors(app, site)
    return app


def _handle_errors(app: FastAPI, site: Site) -> None:
    """Gives every error a page, and every response the safe headers."""

    @app.exception_handler(AnyHTTPException)
    def on_status(request: Request, error: AnyHTTPException) -> HTMLResponse:
        return _page(pages.message_page(error.status_code), error.status_code)

    @app.exception_handler(RequestValidationError)
    def on_odd_address(request: Request, error: Exception) -> HTMLResponse:
        return _page(pages.message_page(404), 404)

    @app.exception_handler(StoreError)
    @app.exception_handler(ChangedPictureError)
    def on_trouble(request: Request, error: UserError) -> HTMLResponse:
        site.report(error)
        return _page(pages.message_page(503), 503)

    @app.middleware("http")
    async def harden(request: Request, call_next) -> Response:
        response = await call_next(request)
        for name, value in pages.HEADERS.items():
            response.headers[name] = value
        return response


def _page(html: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(html, status, {"Cache-Control": "no-store"})
