"""Visitors draw and edit in Chromium: what they see, load and get.

The cascade is tiny and of three stages: 8, 16 and 32 pixels. The tests skip themselves
where Chromium or the Python package playwright is missing.

With IMAGEN_JAX_SCREENSHOTS=DIR the pages are written to DIR at the size of a desktop
and of a phone.
"""

import json
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagen_jax.data.images import box_downsample
from imagen_jax.sampling.png_text import read_png
from tests.app.three_stages import SIZES, make_studio, served, write_three_stages
from tests.cascades import write_cascade_files
from tests.chromium import DESKTOP, PHONE, SCREENSHOTS, launched, opened

pytestmark = [
    pytest.mark.slow,
    # Gradio's own, of pandas.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
]

SCRIPT = "<img src=x onerror=alert(1)> <b>fox</b>"
# The sentence and the marks of the stages, each time that they change.
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const stages = [...document.querySelectorAll("#status li")];
    const marks = stages.map((li) => li.className);
    const picture = document.querySelector("#pictures img");
    const size = picture && picture.complete ? picture.naturalWidth : 0;
    const now = JSON.stringify([marks.join(" "), size]);
    if (window.seen.at(-1) !== now) window.seen.push(now);
  };
  new MutationObserver(look).observe(document.body, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
  document.body.addEventListener("load", look, true);  // of the pictures
}"""
# What is wrong with the page for somebody with a small screen or a screen reader.
FIND_FAULTS = """() => {
  const faults = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) faults.push("wider than the screen");
  if (!document.title || !page.lang) faults.push("no title or language");
  for (const image of document.querySelectorAll("#pictures img")) {
    const [inner, outer] = [image, image.closest("#pictures")].map(
      (element) => element.getBoundingClientRect());
    if (inner.bottom > outer.bottom + 1) faults.push("a picture is cut off");
  }
  return faults;
}"""


@pytest.fixture(scope="module", autouse=True)
def copies(tmp_path_factory):
    """Where Gradio keeps its copies of pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("copies")))
        yield


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory, fill_params):
    folders = write_three_stages(tmp_path_factory.mktemp("stages"), fill_params)
    studio = make_studio(folders, tmp_path_factory.mktemp("files"), queue_limit=1)
    yield studio
    studio.queue.close()


@pytest.fixture(scope="module")
def address(studio):
    with served(studio) as address:
        yield address


@pytest.fixture(scope="module")
def calls():
    """Addresses that this process, the server in it, has asked the network for."""
    found: list[str] = []
    sys.addaudithook(lambda event, args: _note(found, event, args))
    return found


def _note(found, event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", None):
        found.append(str(host))


def open_page(page, address):
    page.set_default_timeout(120_000)  # the stages may have to be compiled first
    page.goto(address)
    page.get_by_label("Prompt", exact=True).wait_for()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def draw(page, name="Draw"):
    """Presses a button, and waits for the pictures."""
    # By the locator, which waits: the page may be renewing the element just now.
    page.locator("#status p").evaluate("element => (element.textContent = '')")
    press(page, name)
    page.locator("#status p").get_by_text(re.compile("^\\d pictures? in")).wait_for()


def look(page, name):
    """Checks the page, and keeps a picture of it if one is wanted."""
    assert page.evaluate(FIND_FAULTS) == []
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, f"app-{name}.png"), full_page=True)


def download(page, folder):
    """Returns the picture and the recipe of the first one that is shown."""
    page.locator("#pictures button.thumbnail-item, #pictures button").first.click()
    with page.expect_download() as waiting:
        page.locator("#pictures").get_by_label("Download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    page.locator("#pictures").get_by_label("Close").click()
    return read_png(path)


@pytest.mark.parametrize(("way", "settings"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_stages_appear_in_turn_and_the_download_has_its_recipe(
    browser, studio, address, calls, tmp_path, way, settings, monkeypatch
):
    write = studio._write

    def write_slowly(*args):
        time.sleep(1)  # otherwise the page may leave out stages
        return write(*args)

    monkeypatch.setattr(studio, "_write", write_slowly)
    faults: list[str] = []
    with opened(browser, address, faults, only_errors=True, **settings) as page:
        open_page(page, address)
        look(page, f"first-{way}")
        page.evaluate(WATCH)
        page.get_by_label("Prompt", exact=True).fill("the red fox")
        page.get_by_label("Seed", exact=True).fill("7")
        draw(page)
        page.wait_for_function("window.seen.at(-1).endsWith(',32]')")
        look(page, f"drawn-{way}")
        seen = [json.loads(text) for text in page.evaluate("window.seen")]
        picture, recipe = download(page, tmp_path)
        page.get_by_text("Every stage").click()
        page.wait_for_function("document.querySelectorAll('#stages img').length === 3")
    assert faults == []
    assert calls == []
    marks = [*dict.fromkeys(marks for marks, _ in seen)]
    order = ["now todo todo", "done now todo", "done done now", "done done done"]
    assert [mark for mark in marks if "now" in mark or "done" in mark] == order
    sizes = [*dict.fromkeys(size for _, size in seen if size)]
    assert sizes == list(SIZES)
    assert (recipe.prompt, recipe.seed, recipe.stage) == ("the red fox", 7, "sr32")
    expected = studio.model("the red fox", seeds=7, batch_size=2)
    np.testing.assert_array_equal(picture, expected[0])


def test_history_and_text_with_markup(browser, address):
    faults: list[str] = []
    with opened(browser, address, faults, only_errors=True, **DESKTOP) as page:
        open_page(page, address)
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        draw(page)
        assert "The prompt '' is empty" in page.locator("#status p").inner_text()
        page.get_by_label("Prompt", exact=True).fill(SCRIPT)
        draw(page)
        page.get_by_text("History of this session").click()
        page.wait_for_function("document.querySelectorAll('#history img').length === 2")
        assert SCRIPT in page.locator("#history").inner_text()
        assert page.locator("#history b").count() == 0
    assert faults == []


def test_a_full_queue_refuses_a_second_visitor_and_leaving_makes_room(
    browser, studio, address
):
    gate, began = threading.Event(), threading.Event()

    def hold(job):
        began.set()
        return gate.wait(60)

    running = studio.queue.submit(hold)
    assert began.wait(10)
    faults: list[str] = []
    with opened(browser, address, faults, only_errors=True, **DESKTOP) as first:
        open_page(first, address)
        press(first, "Draw")
        first.get_by_text("Waiting; 1 request first.").wait_for()
        with opened(browser, address, faults, only_errors=True, **PHONE) as second:
            open_page(second, address)
            press(second, "Draw")
            second.locator("#status p[role=alert]").wait_for()
            text = second.locator("#status p").inner_text()
            assert text.startswith("The queue is full: one request is being drawn")
            look(second, "full-phone")
            press(first, "Stop")
            first.get_by_text("Stopped.").wait_for()
            while studio.queue.num_waiting:
                first.wait_for_timeout(50)
            press(second, "Draw")
            second.get_by_text("Waiting; 1 request first.").wait_for()
        while studio.queue.num_waiting:  # its page is closed
            first.wait_for_timeout(50)
    gate.set()
    assert running.done.result(10)  # it did not end by itself
    assert faults == []


@pytest.fixture
def base_address(tmp_path, fill_params):
    """A base stage alone: an edit compiles soon."""
    folder = write_cascade_files(tmp_path / "stages", fill_params)
    (tmp_path / "files").mkdir()
    studio = make_studio([folder / "base"], tmp_path / "files")
    with served(studio) as address:
        yield address
    studio.queue.close()


def test_editing(browser, base_address, tmp_path):
    """A picture is changed as a whole, where it is painted, and drawn between seeds."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    large = np.kron(noise, np.ones((16, 16, 1), np.uint8))
    Image.fromarray(large).save(tmp_path / "large.png")
    known = box_downsample(large, 32)
    faults: list[str] = []
    with opened(browser, base_address, faults, only_errors=True, **DESKTOP) as page:
        open_page(page, base_address)
        page.get_by_role("tab", name="Edit").click()
        press(page, "Edit")
        page.get_by_text("give the picture too").first.wait_for()
        page.locator("#editor input[type=file]").set_input_files(tmp_path / "large.png")
        page.locator("#editor canvas").first.wait_for()
        page.wait_for_timeout(2000)
        page.get_by_label("number input for Strength").fill("0")
        draw(page, "Edit")
        picture, recipe = download(page, tmp_path)
        np.testing.assert_array_equal(picture, known)
        assert recipe.edit["strength"] == 0
        paint(page)
        look(page, "edit-desktop")
        page.get_by_label("number input for Strength").fill("1")
        draw(page, "Edit")
        picture, recipe = download(page, tmp_path)
        assert "mask_sha256" in recipe.edit
        changed = (picture != known).any(axis=-1)
        assert changed[3:5, 3:5].all()  # the middle is painted
        assert not changed[[0, 0, -1, -1], [0, -1, 0, -1]].any()  # the corners not
        page.get_by_role("tab", name="Between seeds").click()
        page.get_by_label("number input for Pictures").fill("3")
        draw(page, "Draw between")
        assert page.locator("#pictures img").count() == 3
        drawn = download(page, tmp_path)[0]
        press(page, "Edit this")
        page.get_by_role("button", name="Edit", exact=True).wait_for()
        page.wait_for_timeout(2000)
        page.get_by_label("number input for Strength").fill("0")
        page.get_by_label("number input for Pictures").fill("1")
        draw(page, "Edit")
        picture, recipe = download(page, tmp_path)
        np.testing.assert_array_equal(picture, drawn)
        assert "mask_sha256" not in recipe.edit  # the paint has gone
    assert faults == []


def paint(page):
    """Draws a stroke over the middle of the canvas."""
    box = page.locator("#editor canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 15, y - 15)
    page.mouse.down()
    page.mouse.move(x + 15, y + 15, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
