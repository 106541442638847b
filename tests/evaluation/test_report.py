"""The report's page, parsed and seen in Chromium, and the command's bad input.

With IMAGEN_JAX_SCREENSHOTS=DIR the browser's test writes the page to DIR at the size of
a desktop and of a phone, light and dark.
"""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagen_jax.evaluate import command
from imagen_jax.evaluation.report import gather
from imagen_jax.evaluation.report.markup import Markup, tag
from imagen_jax.evaluation.report.page import make_page
from imagen_jax.evaluation.report.plots import plot
from imagen_jax.evaluation.report.tables import render_markdown, render_result
from tests.chromium import DESKTOP, PHONE, SCREENSHOTS, launched, opened
from tests.commands.command import run

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
VOID = ("meta", "img", "br")
BANDS = [(-20, -10), (-10, 0), (0, 10), (10, 20)]


class Page(HTMLParser):
    """A page's elements, its words, and whether every element was closed."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def write_run(folder: Path) -> Path:
    """Writes a run with every kind of metric, and faults for the health notes."""
    (folder / "previews").mkdir(parents=True)
    config = {"name": "base", "resolution": 64, "train": {"num_steps": 1000}}
    (folder / "config.json").write_text(json.dumps({**config, "note": EVIL}))
    lines = [
        {
            "step": step,
            "loss": math.exp(-step / 200),
            "learning_rate": 1e-3,
            "grad_norm": 0.1,
            "pictures_per_sec": 30.0,
            "num_skipped": float(step > 500),
            "heldout/loss": 0.5 + step / 1000,
            **{f"heldout/loss_logsnr_{a}_{b}": 0.1 + step / 1e4 for a, b in BANDS},
            "health/moved/down": 0.01,
            "something/new": 3.0,
        }
        for step in range(100, 1001, 100)
    ]
    lines.append({"step": 1000, "loss": None})
    text = "\n".join(map(json.dumps, lines))
    (folder / "metrics.jsonl").write_text(f'{text}\n{{"step": 1')
    for step in range(6):
        pixels = np.full((40, 60, 3), 40 * step, np.uint8)
        Image.fromarray(pixels).save(folder / "previews" / f"step_{step}.png")
    return folder


def write_results(folder: Path) -> Path:
    """Writes a sweep, a result with a warning, Markdown, a sheet, corrupt files."""
    folder.mkdir()
    cells = [
        {"settings": {"guidance": w, "threshold": t}, "scores": {"fid": 9.0 - w}}
        for w in (1, 3)
        for t in ("static", "dynamic")
    ]
    sweep = {"prompts": [EVIL], "best": cells[2]["settings"], "cells": cells}
    (folder / "sweep.json").write_text(json.dumps(sweep))
    result = {
        "accuracy": 0.75,
        "manifest": {"source": {"name": EVIL}, "warnings": ["few pictures"]},
        "rows": [{"stage": "base", "figures": {"gain": 1.5}}, {"stage": "sr256"}],
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "result.md").write_text(
        f"# Title\n\n| a | b |\n|---|---:|\n| {EVIL} | 2 |"
    )
    (folder / "broken.json").write_text('{"a": ')
    (folder / "broken.png").write_bytes(b"\x89PNG no")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1500, 3), np.uint8)
    Image.fromarray(noise).save(folder / "sheet.png")
    return folder


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    room = gather.Room()
    runs = [gather.gather_run(write_run(folder / "run"), room)]
    folders = [gather.gather_folder(write_results(folder / "results"), room)]
    return make_page(runs, folders, {"imagen_jax": "1.2.3"}, "today", "A report")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_page_is_whole_and_loads_nothing(html, page):
    """Every element is closed, nothing is fetched and no script runs."""
    assert page.open == []
    assert len(html.encode()) < 5e6
    assert page.all("script") == page.all("link") == []
    assert page.all("img")
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(image["alt"] for image in page.all("img"))
    assert all(link["href"].startswith("#") for link in page.all("a"))
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {link["href"][1:] for link in page.all("a")} <= ids
    policies = [meta.get("content", "") for meta in page.all("meta")]
    assert any(policy.startswith("default-src 'none';") for policy in policies)
    assert not any("onerror" in attributes for _, attributes in page.elements)


def test_words_from_files_are_escaped(html, page):
    assert EVIL not in html
    assert any(EVIL in words for words in page.words)


def test_curves_are_there(page):
    spoken = " ".join(str(svg["aria-label"]) for svg in page.all("svg"))
    for name in ("Loss", "log-SNR", "Learning rate", "Gradient norm", "Pictures per"):
        assert name in spoken
    assert "loss from 0.6065 to 0.006738" in spoken
    for low, high in BANDS:
        assert f"{low} to {high} from" in spoken
    assert "something/new" in spoken


def test_what_is_wrong_is_said(page):
    said = "\n".join(page.words)
    for sentence in (
        "metrics.jsonl is corrupt; lines that cannot be read: 1",
        "loss was not finite (lines of metrics.jsonl: 1)",
        "skipped updates, which were not finite: 1",
        "the held-out loss rose from 0.6 at step 100 to 1.5 at the end",
        "broken.json is corrupt",
        "broken.png is corrupt",
        "few pictures",
    ):
        assert sentence in said


def test_previews_run_from_first_to_last(page):
    names = [i["alt"].rpartition(" ")[2] for i in page.all("img") if "step" in i["alt"]]
    assert names == ["step_0.png", "step_2.png", "step_3.png", "step_5.png"]


def test_sweep_has_a_plot_and_its_best_cell():
    cells = [
        {"settings": {"guidance": w, "kind": k}, "scores": {"clip": w + len(k)}}
        for w in (1.0, 3.0)
        for k in ("a", "bb")
    ]
    page = Page(render_result("s", {"cells": cells, "best": cells[3]["settings"]}))
    (drawn,) = page.all("svg")
    assert drawn["aria-label"] == "clip: kind a from 2 to 4; kind bb from 3 to 5"
    rows = [row.get("class") for row in page.all("tr")]
    assert rows == [None, None, None, None, "best"]


@pytest.mark.parametrize(
    "result",
    [
        *[{}, [], None, 3, {"cells": []}, {"cells": [{}]}, [1, {"a": 1}]],
        *[[{"a": 1}, 2], {"cells": [{"settings": {}, "scores": {}}, 5]}],
        {"a": {"b": {"c": [[]]}}},
    ],
)
def test_any_json_is_shown(tmp_path, result):
    """A result of another job, or an odd file, is no crash."""
    (tmp_path / "odd.json").write_text(json.dumps(result))
    folder = gather.gather_folder(tmp_path, gather.Room())
    assert Page(make_page([], [folder], {}, "today")).open == []


def test_markdown_table():
    page = Page(
        render_markdown("# A\n\n| x | y |\n|---|---:|\n| b | 2 |\n| c |\n\nend")
    )
    assert page.words == ["A", "x", "y", "b", "2", "c", "-", "end"]
    assert len(page.all("td")) == 2


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 1.0)],
        [(0.0, 0.0), (1.0, 0.0)],
        [(0.0, 1e-9), (9.0, 1e9)],
        [(0.0, -1.0), (1.0, 5.0)],
        [(float(i), 2.0 + i % 7) for i in range(5000)],
    ],
)
def test_any_curve_lies_inside_its_plot(points):
    page = Page(plot({"name": points}, "label"))
    (box,) = page.all("svg")
    _, _, width, height = map(float, box["viewbox"].split())
    places = [line["points"] for line in page.all("polyline")]
    places += [f"{dot['cx']},{dot['cy']}" for dot in page.all("circle")]
    assert len(places) == 1
    xy = [tuple(map(float, place.split(","))) for place in places[0].split()]
    assert len(xy) <= 500
    assert all(0 <= x <= width and 0 <= y <= height for x, y in xy)
    last = [x for x, _ in xy][-1]
    assert last == max(x for x, _ in xy)


def test_higher_values_are_drawn_higher():
    (line,) = Page(plot({"n": [(0.0, 1.0), (1.0, 2.0)]}, "l")).all("polyline")
    low, high = (float(place.split(",")[1]) for place in line["points"].split())
    assert high < low


def test_markup_escapes_all_but_markup():
    assert tag("p", "<b>", Markup("<i></i>"), title='"') == (
        '<p title="&quot;">&lt;b&gt;<i></i></p>'
    )


def test_pictures_fill_no_more_than_their_room(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
    for i in range(3):
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    folder = gather.gather_folder(tmp_path, gather.Room(left=100_000))
    assert sum(len(picture.data) for picture in folder.pictures) < 140_000
    assert len(folder.pictures) + len(folder.notes) == 3
    assert "no room" in folder.notes[-1]


def test_run_without_metrics_is_said_in_the_page(tmp_path, monkeypatch, capfd):
    work = tmp_path / "run"
    work.mkdir()
    (work / "config.json").write_text('{"name": "base"}')
    out = tmp_path / "made" / "report.html"
    status, said, err = run(
        *(monkeypatch, capfd, command, "report", f"--workdir={work}", f"--out={out}")
    )
    assert status == 0, err
    assert "1 runs, 0 folders, 0.0 MB" in said
    words = Page(out.read_text()).words
    assert "metrics.jsonl is missing: there are no curves" in words
    assert "there are no previews" in words


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --workdir=RUN or --folder=DIR"),
        (["--workdir={tmp}/gone"], "gone is no workdir"),
        (["--workdir={tmp}"], "is no workdir: it has neither config.json nor"),
        (["--folder={tmp}/gone"], "gone is not a folder"),
        (["--folder={tmp}", "--out={tmp}/file/report.html"], "cannot write"),
        (["--folder={tmp}", "--out={tmp}"], "choose another --out"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, flags, message):
    (tmp_path / "file").write_text("")
    flags = [flag.format(tmp=tmp_path) for flag in flags]
    if not any(flag.startswith("--out") for flag in flags):
        flags.append(f"--out={tmp_path}/report.html")
    status, _, err = run(monkeypatch, capfd, command, "report", *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


FIND_FAULTS = """() => {
  const faults = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) faults.push("wider than the screen");
  if (!document.title || page.lang !== "en") faults.push("no title or language");
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) faults.push("image: " + image.alt);
  const ink = getComputedStyle(document.body).color;
  if (ink === getComputedStyle(document.body).backgroundColor) faults.push("ink");
  return faults;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_in_a_browser(html, tmp_path, device, scheme):
    """No error, nothing loaded, nothing too wide; the keyboard reaches the content."""
    (tmp_path / "report.html").write_text(html)
    address, faults = f"file://{tmp_path}/report.html", []
    settings = {**(PHONE if device == "phone" else DESKTOP), "color_scheme": scheme}
    with launched() as browser, opened(browser, address, faults, **settings) as page:
        page.goto(address)
        assert page.evaluate(FIND_FAULTS) == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        is_dark = sum(map(int, ground.strip("rgb()").split(","))) < 3 * 128
        assert is_dark == (scheme == "dark")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.keyboard.press("Tab")  # the first table, which can be scrolled
        assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
        page.evaluate(
            "for (const d of document.querySelectorAll('details')) d.open = 1"
        )
        assert page.evaluate(FIND_FAULTS) == []
        if SCREENSHOTS:
            path = Path(SCREENSHOTS, f"report-{device}-{scheme}.png")
            page.screenshot(path=path, full_page=True)
    assert faults == []
