"""The pages that raters see: plain HTML forms that need no script.

Captions and all else that comes from files is escaped by the templates. A page loads
nothing but this server's style sheet, script and pictures.
"""

import importlib.resources
from collections.abc import Sequence
from functools import cache
from typing import Any

from imagen_jax.optional import import_optional
from imagen_jax.raters.settings import Settings
from imagen_jax.raters.store import Rater

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address is the rater's key
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

STATIC = {
    "style.css": "text/css",
    "keys.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

INTRO = {
    "quality": (
        "On each page you see two pictures. Choose the one that looks more real."
    ),
    "alignment": (
        "On each page you see a picture and a caption. Say whether the caption "
        "describes the picture accurately."
    ),
    "drawbench": (
        "On each page you see a caption and two sets of eight pictures that were made "
        "for it. Answer two questions about the sets."
    ),
}

INSTRUCTIONS = {
    "quality": (
        "More real means: more like a photograph that was taken of something.",
        "If you cannot tell, choose the one that you would rather believe.",
    ),
    "alignment": (
        "Yes: all that the caption says is in the picture.",
        "Somewhat: a part of the caption is missing, or is wrong.",
        "No: the picture shows something else.",
        "Judge only whether picture and caption fit, not how beautiful the picture is.",
    ),
    "drawbench": (
        "The first question is about the pictures by themselves: which set is of "
        "higher quality?",
        "The second is about the caption: which set shows better what it says?",
        "Look at all eight pictures of both sets. If neither set is better, say that "
        "you have no preference.",
        "With a mouse: point at a picture to see it larger.",
    ),
}

MESSAGES = {
    400: ("This answer could not be read", "Please open your link again."),
    404: (
        "This page does not exist",
        "A study is opened by the link that you were sent. Please check that it is "
        "complete.",
    ),
    405: ("This page cannot be used like that", "Please open your link again."),
    409: ("This page was answered before", "Your first answer stands."),
    413: ("This answer is too long", "Please open your link again."),
    429: ("Too many requests", "Please wait a minute, then load the page again."),
    503: (
        "The study is paused",
        "Something has to be mended here. All your answers so far are kept; please "
        "open your link again later.",
    ),
}


def consent_page(settings: Settings, token: str, rater: Rater) -> str:
    """Returns the first page: what to do, and what the rater agrees to."""
    return _render(
        "consent.html",
        title=settings.title,
        intro=INTRO[settings.kind],
        instructions=INSTRUCTIONS[settings.kind],
        consent=settings.consent,
        contact=settings.contact,
        num_trials=rater.num_trials,
        token=token,
    )


def trial_page(
    settings: Settings, token: str, rater: Rater, prompt: str, sizes: Sequence[int]
) -> str:
    """Returns the page of the rater's next trial.

    Args:
      settings: of the study.
      token: of the rater.
      rater: who is at this trial.
      prompt: the caption.
      sizes: pictures in each group, as they stand on the page.
    """
    base, first, groups = f"/r/{token}/picture/{rater.position}", 0, []
    for size in sizes:
        groups.append([f"{base}/{first + i}" for i in range(size)])
        first += size
    return _render(
        "trial.html",
        title=settings.title,
        kind=settings.kind,
        token=token,
        position=rater.position,
        num_trials=rater.num_trials,
        prompt=prompt,
        groups=groups,
    )


def done_page(settings: Settings, rater: Rater) -> str:
    """Returns the last page."""
    paragraphs = [
        f"You have answered all {rater.num_trials} pages, and every answer is saved. "
        "You can close this window.",
    ]
    if settings.contact:
        paragraphs.append(f"Questions about the study: {settings.contact}")
    return _render("message.html", title="Thank you", paragraphs=paragraphs, link="")


def message_page(status: int, token: str | None = None) -> str:
    """Returns the page for an HTTP status that is no success.

    Args:
      status: one of `MESSAGES`; any other gives the text of 404.
      token: of a rater who can go on, else None.
    """
    title, text = MESSAGES.get(status, MESSAGES[404])
    link = "" if token is None else f"/r/{token}"
    return _render(
        "message.html", title=title, paragraphs=[text], link=link, link_text="Go on"
    )


def landing_page() -> str:
    """Returns what the server's bare address shows."""
    text = "This study is by invitation: please open the link that you were sent."
    return _render("message.html", title="A study", paragraphs=[text], link="")


@cache
def static_file(name: str) -> bytes:
    """Returns a file of `STATIC`."""
    folder = importlib.resources.files("imagen_jax.raters") / "static"
    return (folder / name).read_bytes()


@cache
def _environment() -> Any:
    jinja2 = import_optional("jinja2", "raters")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("imagen_jax.raters", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render({"kind": "", **values})
