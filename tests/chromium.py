"""An installed Chromium for the tests of web pages; what goes wrong is noted."""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = os.environ.get("IMAGEN_JAX_SCREENSHOTS")
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


@contextmanager
def launched() -> Iterator[Any]:
    """A headless browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None or importlib.util.find_spec("playwright") is None:
        pytest.skip(f"needs {BROWSERS[0]} and the Python package playwright")
    sync_api = importlib.import_module("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser,
    site_address: str,
    faults: list[str],
    *,
    only_errors: bool = False,
    **settings,
) -> Iterator[Any]:
    """A page of its own; whatever goes wrong in it is noted.

    Args:
      browser: from `launched`.
      site_address: whatever is loaded from elsewhere is a fault.
      faults: gets a line for each.
      only_errors: what the console says besides errors is none.
      **settings: of the browser's context.
    """
    context = browser.new_context(**settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on(
        "console",
        lambda message: (
            (only_errors and message.type != "error") or faults.append(message.text)
        ),
    )
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((site_address, "about:", "blob:", "data:"))
            or faults.append(f"loads {request.url}")
        ),
    )
    page.on(
        "response",
        lambda response: (
            response.status < 400
            or faults.append(f"{response.status} for {response.url}")
        ),
    )
    try:
        yield page
    finally:
        context.close()
