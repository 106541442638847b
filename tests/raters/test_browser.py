"""Three raters take a study of each kind in Chromium; the report finds their truth.

One uses the mouse, one the keyboard, one a phone. They judge what they see: the first
pixels of each picture say how good it is (see `studies`). They skip themselves where
Chromium or the Python package playwright is missing.

With IMAGEN_JAX_SCREENSHOTS=DIR the pictures are larger, and every kind of page is
written to DIR at the size of a desktop and of a phone. So the pictures in docs/raters/
were made.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from imagen_jax.raters import __main__ as raters
from tests.chromium import DESKTOP, PHONE, SCREENSHOTS, launched, opened
from tests.commands.command import run
from tests.raters.studies import (
    NO,
    SOMEWHAT,
    YES,
    served,
    write_pairs,
    write_sets,
)

pytestmark = pytest.mark.slow

GIVEN = {YES: "yes", SOMEWHAT: "somewhat", NO: "no"}

# The first two pixels of every picture on the page: [quality, fit, number].
SEE = """async () => await Promise.all([...document.images].map(async (image) => {
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, 2, 1).data;
  return [pixels[0], pixels[1], pixels[4]];
}))"""

# What is wrong with the page for somebody with a small screen or without a mouse.
FIND_FAULTS = """() => {
  const faults = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) faults.push("wider than the screen");
  if (!document.title || page.lang !== "en") faults.push("no title or language");
  for (const image of document.images)
    if (!image.alt || image.alt.includes("scene")) faults.push("alt: " + image.alt);
  for (const target of document.querySelectorAll("button, .button, .option")) {
    const box = target.getBoundingClientRect();
    if (box.height < 44 || box.width < 44) faults.push("small: " + target.innerText);
  }
  for (const input of document.querySelectorAll("input:not([type=hidden])"))
    if (!input.labels.length || !input.closest("fieldset").querySelector("legend"))
      faults.push("no label: " + input.name);
  return faults;
}"""


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


class Rater:
    """Somebody at a browser, who answers what `judge` says."""

    def __init__(self, page, link: str, kind: str, way: str, judge: Callable):
        """Opens nothing yet.

        Args:
          page: the browser's page.
          link: of the rater.
          kind: of the study.
          way: "mouse", "keys" or "phone".
          judge: gives the answer to each question from the pixels and the caption.
        """
        self.page, self.link, self.kind = page, link, kind
        self.way, self.judge = way, judge
        self.kept: set[str] = set()

    def take(self) -> int:
        """Goes from the link to the last page; returns the number of trials."""
        self.page.goto(self.link)
        self.look("consent")
        self.press_button()
        num_trials = 0
        while self.page.locator("form").count():
            if num_trials == 1:
                self.page.reload()
            if num_trials == 2:  # another day
                self.page.goto("about:blank")
                self.page.goto(self.link)
            position = self.page.locator("input[name=position]").input_value()
            assert int(position) == num_trials
            self.answer(num_trials)
            assert self.page.url == self.link
            num_trials += 1
        assert self.page.locator("h1").inner_text() == "Thank you"
        self.look("done")
        return num_trials

    def answer(self, position: int) -> None:
        """Judges what the page shows, and goes on."""
        caption = self.page.locator("blockquote")
        text = caption.inner_text() if caption.count() else ""
        answers = self.judge(self.page.evaluate(SEE), text)
        self.look("trial")
        for question, value in answers.items():
            option = self.page.locator(f"input[name={question}][value='{value}']")
            if self.way == "mouse":
                option.click()
            elif self.way == "phone":
                option.tap()
            elif position == 0:
                self.choose_by_tab(question, value)
            else:
                self.page.keyboard.press(option.get_attribute("data-key"))
            assert option.is_checked()
        self.look("chosen")
        if self.way == "keys":
            with self.page.expect_navigation():
                self.page.keyboard.press("Enter")
        else:
            self.press_button()

    def choose_by_tab(self, question: str, value: str) -> None:
        """Chooses as browsers do by themselves, without the page's script."""
        self.page.keyboard.press("Tab")
        assert self.page.evaluate("document.activeElement.name") == question
        face = self.page.locator("input:focus-visible + .face")
        assert face.evaluate("face => getComputedStyle(face).outlineStyle") == "solid"
        options = self.page.locator(f"input[name={question}]")
        values = [option.get_attribute("value") for option in options.all()]
        self.page.keyboard.press("Space")
        for _ in range(values.index(value)):
            self.page.keyboard.press("ArrowDown")

    def press_button(self) -> None:
        """Presses the page's only button."""
        button = self.page.get_by_role("button")
        with self.page.expect_navigation():
            button.tap() if self.way == "phone" else button.click()

    def look(self, name: str) -> None:
        """Checks the first page of each name, and keeps a picture if one is wanted."""
        if name in self.kept:
            return
        self.kept.add(name)
        assert self.page.evaluate(FIND_FAULTS) == []
        if SCREENSHOTS:
            file = f"{self.kind}-{name}-{self.way}.png"
            self.page.screenshot(path=Path(SCREENSHOTS, file), full_page=True)


def take_study(browser, folder: Path, kind: str, judges: list[Callable]) -> list[int]:
    """Three raters take the study, each in their way; returns their trials' numbers."""
    faults: list[str] = []
    nums = []
    with served(folder, 3) as (_, links):
        address = links[0].partition("/r/")[0]
        for link, way, judge in zip(
            links, ("mouse", "keys", "phone"), judges, strict=True
        ):
            settings = PHONE if way == "phone" else DESKTOP
            with opened(browser, address, faults, **settings) as page:
                nums.append(Rater(page, link, kind, way, judge).take())
    assert faults == []
    return nums


def report(monkeypatch, capfd, folder: Path) -> tuple[str, list[dict], list[dict]]:
    """Returns what the report says, and its rows of answers and of the table."""
    out = folder / "report"
    status, said, err = run(
        monkeypatch, capfd, raters, "report", f"--study={folder}", f"--out={out}"
    )
    assert status == 0, err
    (answers,) = out.glob("answers_*.csv")
    assert (out / "plot.png").stat().st_size > 5000
    read = [
        list(csv.DictReader(file.read_text("utf-8").splitlines()))
        for file in (answers, out / "table.csv")
    ]
    rated = [row for row in read[0] if row["is_control"] == "False"]
    return said, rated, read[1]


def size_of(usual: int) -> int:
    """Returns how large pictures are: larger where they are to be looked at."""
    return 512 if SCREENSHOTS else usual


def make_controls(monkeypatch, capfd, folder: Path, num: int) -> None:
    """Makes controls by the command, of pairs that are not rated."""
    flags = ("controls", f"--study={folder}", f"--num={num}")
    status, _, err = run(monkeypatch, capfd, raters, *flags)
    assert status == 0, err


def test_quality_study(browser, tmp_path, monkeypatch, capfd):
    """The model's picture is better in 4 of 5 pairs; one rater always takes the first.

    The reference's quality is 128, a mosaic's about 65.
    """
    model = [(100 if i % 5 == 0 else 150, YES) for i in range(8)]
    settings = {"num_pairs": 4, "num_controls": 4, "size": size_of(48)}
    folder = write_pairs(tmp_path, "quality", model, **settings)
    make_controls(monkeypatch, capfd, folder, 4)

    def choose_better(seen, caption):
        return {"quality": "1" if seen[0][0] > seen[1][0] else "2"}

    def choose_first(seen, caption):
        return {"quality": "1"}

    judges = [choose_better, choose_better, choose_first]
    assert take_study(browser, folder, "quality", judges) == [8, 8, 8]
    said, rated, table = report(monkeypatch, capfd, folder)
    kept = [row for row in rated if row["is_kept"] == "True"]
    assert {row["rater"] for row in kept} == {"1", "2"}
    assert len(kept) == 8
    worse = {"scene0", "scene5"}
    for row in kept:
        assert float(row["value"]) == (row["item"] not in worse), row
    true_rate = 100 * sum(row["item"] not in worse for row in kept) / len(kept)
    assert f"| original | Imagen | {true_rate:.1f}% ± " in said
    assert "Left out: rater 3, 2 of 4 controls right (50 %, below 80 %)." in said
    assert "Krippendorff's alpha: 1.00" in said
    assert {row["set"] for row in table} == {"original", "no people"}


def test_alignment_study(browser, tmp_path, monkeypatch, capfd):
    """The model's pictures fit somewhat or not at all, the reference's all fit."""
    model = [(150, (SOMEWHAT, NO)[i % 2]) for i in range(6)]
    settings = {"num_pairs": 4, "num_controls": 2, "size": size_of(48)}
    folder = write_pairs(tmp_path, "alignment", model, **settings)
    make_controls(monkeypatch, capfd, folder, 2)

    def judge(seen, caption):
        _, fit, number = seen[0]
        fits = caption.endswith(f"view {number}")
        return {"alignment": GIVEN[fit] if fits else "no"}

    assert take_study(browser, folder, "alignment", [judge] * 3) == [6, 6, 6]
    said, rated, _ = report(monkeypatch, capfd, folder)
    assert len(rated) == 12
    assert "3 raters began, 3 finished, 3 count" in said
    points = {"Imagen": [], "original": []}
    for row in rated:
        fit = model[int(row["item"].removeprefix("scene"))][1]
        true = {YES: 100, SOMEWHAT: 50, NO: 0}[
            fit if row["system"] == "Imagen" else YES
        ]
        assert float(row["value"]) == true
        points[row["system"]].append(true)
    assert min(map(len, points.values())) >= 4
    for name, values in points.items():
        mean = sum(values) / len(values)
        assert f"| original | {name} | - | {mean:.1f} ± " in said or (
            f"| original | {name} | 50.0% | {mean:.1f} ± " in said
        )


def test_drawbench_study(browser, tmp_path, monkeypatch, capfd):
    """Set a is better in Colors and worse in Counting; captions it fits never worse."""
    truth = {
        "Colors": [(200, 128), (200, 128), (200, 200)],
        "Counting": [(100, 200), (128, 200)],
    }
    folder = write_sets(tmp_path, truth, size=size_of(32))

    def prefer(first, second):
        return "same" if first == second else "1" if first > second else "2"

    def judge(seen, caption):
        sums = [
            [sum(picture[k] for picture in half) for half in (seen[:8], seen[8:])]
            for k in (0, 1)
        ]
        return {"fidelity": prefer(*sums[0]), "alignment": prefer(*sums[1])}

    assert take_study(browser, folder, "drawbench", [judge] * 3) == [3, 2, 3]
    said, _, table = report(monkeypatch, capfd, folder)
    shares = {
        (row["measure"], row["set"], row["system"]): float(row["mean"]) for row in table
    }
    assert shares["fidelity", "Colors", "Imagen"] == 100
    assert shares["fidelity", "Counting", "other"] == 50
    assert shares["fidelity", "Counting", "indifferent"] == 50
    assert shares["fidelity", "all categories", "Imagen"] == 75
    assert shares["alignment", "Colors", "indifferent"] == pytest.approx(200 / 3)
    assert shares["alignment", "Counting", "Imagen"] == 100
    assert "| fidelity | all categories | 75.0 (" in said


def test_without_script_the_pages_work_too(browser, tmp_path):
    folder = write_pairs(tmp_path, "quality", [(150, YES)] * 2, num_controls=0)
    with served(folder, 1) as (site, links):
        with opened(browser, "", [], java_script_enabled=False) as page:
            page.goto(links[0])
            page.get_by_role("button").click()
            for _ in range(2):
                page.get_by_label("Picture 2").check()
                page.get_by_role("button").click()
            assert page.get_by_role("heading").inner_text() == "Thank you"
        assert site.store.find_rater(links[0][-32:]).position == 2


def test_messages_at_the_edge(browser, tmp_path):
    """An answer that is missing is asked for; unknown links and pauses have a page."""
    folder = write_pairs(tmp_path, "quality", [(150, YES)] * 2, num_controls=0)
    with served(folder, 1) as (site, links):
        with opened(browser, "", [], **PHONE) as page:
            rater = Rater(page, links[0], "edge", "phone", lambda seen, caption: {})
            page.goto(links[0])
            rater.press_button()
            page.get_by_role("button").tap()  # nothing chosen: the browser asks
            assert page.locator("input:invalid").count() == 2
            assert site.store.find_rater(links[0][-32:]).position == 0
            (folder / "model" / "scene0.png").rename(tmp_path / "0.png")
            (folder / "model" / "scene1.png").rename(tmp_path / "1.png")
            for address, title in [
                (links[0] + "x", "This page does not exist"),
                (links[0].partition("/r/")[0], "A study"),
                (links[0], "The study is paused"),
            ]:
                page.goto(address)
                assert page.locator("h1").inner_text() == title
                rater.look(title.split()[-1])
