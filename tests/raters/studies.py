"""Small studies whose truth is written into the pictures' first pixels.

A scene is drawn from its number: a sun over hills. Its pixel (0, 0) has the quality in
red and how well it fits its caption in green, and pixel (0, 1) the scene's number in
red, so that a simulated rater can judge what a page shows without knowing the systems.
"""

import contextlib
import csv
import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from imagen_jax.raters.server import Site, make_app
from imagen_jax.raters.serving import prepare
from imagen_jax.raters.store import Store
from imagen_jax.raters.study import read_study
from imagen_jax.web import listen, make_server

SUNS = {"white": "#f7f3e8", "yellow": "#f2c335", "copper": "#e8853a", "red": "#c8442f"}
HILLS = {"green": "#4c7a3f", "brown": "#7d5a3c", "violet": "#6a5484", "grey": "#6c7278"}
YES, SOMEWHAT, NO = 255, 128, 0


def caption(number: int) -> str:
    sun, hills = list(SUNS)[number % 4], list(HILLS)[number // 4 % 4]
    return f"a {sun} sun over {hills} hills, view {number}"


def draw_scene(
    number: int, quality: int, fit: int, size: int = 48, seed: int = 0
) -> Image.Image:
    """A picture of `caption(number)`, blurred and noisy where the quality is low."""
    rng = np.random.default_rng([number, seed])
    big = size * 2
    rows = np.linspace(0, 1, big)[:, None, None]
    sky = (1 - rows) * np.array([60, 110, 170]) + rows * np.array([96, 180, 215])
    sky = np.broadcast_to(sky, (big, big, 3))
    image = Image.fromarray(sky.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = rng.uniform(0.25, 0.75) * big, rng.uniform(0.2, 0.45) * big
    radius = big * rng.uniform(0.09, 0.14)
    circle = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(circle, fill=list(SUNS.values())[number % 4])
    color = np.array(Image.new("RGB", (1, 1), list(HILLS.values())[number // 4 % 4]))
    for layer in range(3):
        height = big * (0.5 + 0.14 * layer)
        wave = sum(
            big * 0.05 * np.sin(np.arange(big) / big * k * 3 + rng.uniform(0, 6))
            for k in (1, 2, 4)
        )
        line = [(i, float(height + wave[i])) for i in range(big)]
        shade = tuple(int(v) for v in color[0, 0] * (1 - 0.2 * layer))
        draw.polygon([*line, (big, big), (0, big)], fill=shade)
    if quality < 128:
        image = image.filter(ImageFilter.GaussianBlur(big / 90))
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    if quality < 128:
        noisy = np.asarray(image) + rng.normal(0, 14, (size, size, 3))
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    image.putpixel((0, 0), (quality, fit, 0))
    image.putpixel((1, 0), (number, 0, 0))
    return image


def write_study(folder: Path, settings: dict, rows: Sequence[dict[str, str]]) -> Path:
    """Writes study.toml and prompts.csv; a table in `settings` is a dict."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {k: v for k, v in settings.items() if not isinstance(v, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items()]
    for name, table in settings.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
    (folder / "study.toml").write_text("\n".join(lines) + "\n", "utf-8")
    with (folder / "prompts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _toml(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


PAIR = {
    "model": {"name": "Imagen", "folder": "model"},
    "reference": {"name": "original", "folder": "reference"},
}


def write_pairs(
    folder: Path,
    kind: str,
    model: Sequence[tuple[int, int]],
    captions: Sequence[str] | None = None,
    size: int = 48,
    **settings: str | int,
) -> Path:
    """A quality or alignment study; the references have quality 128 and fit `YES`.

    Args:
      folder: of the study.
      kind: "quality" or "alignment".
      model: (quality, fit) of the model's picture of each scene.
      captions: instead of the scenes' own.
      size: of the pictures in pixels.
      settings: of study.toml.
    """
    rows = []
    for i, (quality, fit) in enumerate(model):
        for name, scene in {
            "model": draw_scene(i, quality, fit, size, seed=1),
            "reference": draw_scene(i, 128, YES, size),
        }.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            scene.save(folder / name / f"scene{i}.png")
        text = caption(i) if captions is None else captions[i]
        rows.append({"name": f"scene{i}", "prompt": text})
    return write_study(folder, {"kind": kind, **settings, **PAIR}, rows)


def write_sets(
    folder: Path,
    truth: dict[str, Sequence[tuple[int, int]]],
    size: int = 32,
    **settings: str | int,
) -> Path:
    """A DrawBench study; set b has quality 128 and fit 128 throughout.

    Args:
      folder: of the study.
      truth: by category, (quality, fit) of set a for each prompt.
      size: of the pictures in pixels.
      settings: of study.toml.
    """
    rows, number = [], 0
    for category, values in truth.items():
        for quality, fit in values:
            for side, (q, f) in {"a": (quality, fit), "b": (128, 128)}.items():
                place = folder / side / f"p{number}"
                place.mkdir(parents=True)
                for k in range(8):
                    seed = 8 * (side == "b") + k
                    draw_scene(number, q, f, size, seed).save(place / f"{k}.png")
            rows.append(
                {"name": f"p{number}", "prompt": caption(number), "category": category}
            )
            number += 1
    sides = {
        "a": {"name": "Imagen", "folder": "a"},
        "b": {"name": "other", "folder": "b"},
    }
    return write_study(folder, {"kind": "drawbench", **settings, **sides}, rows)


class Client:
    """One rater's browser, as far as HTTP goes: one connection that is kept."""

    def __init__(self, link: str):
        """Connects to the link's server; paths are below the link."""
        parts = urlsplit(link)
        self.path = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=30)

    def ask(
        self, method: str, path: str, form: dict | bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Returns (status, headers in lower case, body) for an absolute path."""
        body = urlencode(form).encode() if isinstance(form, dict) else form
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        data = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, data

    def page(self) -> str:
        status, _, data = self.ask("GET", self.path)
        assert status == 200, data
        return data.decode()

    def begin(self) -> None:
        assert self.ask("POST", f"{self.path}/begin")[0] == 303

    def answer(self, **form: str | int) -> int:
        return self.ask("POST", f"{self.path}/answer", form)[0]

    def close(self) -> None:
        self._connection.close()


def position_on(page: str) -> int | None:
    """Which trial a page is about; None for the first and last pages."""
    found = re.search(r'name="position" value="(\d+)"', page)
    return None if found is None else int(found[1])


@contextlib.contextmanager
def served(folder: Path, num_raters: int = 3, **limits) -> Iterator[tuple[Site, list]]:
    """Serves a study in this process; yields the site and the raters' links."""
    study, store = read_study(folder), Store(folder)
    prepare(study, store, num_raters)
    site = Site(study, store, **limits)
    with listen("127.0.0.1", 0) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = make_server(make_app(site))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield site, [f"{base}/r/{token}" for token in store.tokens()]
        finally:
            server.should_exit = True
            thread.join()
            store.close()


def start_command(folder: Path, *flags: str) -> tuple[subprocess.Popen, list[str]]:
    """Starts `raters serve` as a process of its own; returns it and the links."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "imagen_jax.raters", "serve"),
            *(f"--study={folder}", "--port=0", *flags),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    if not line.startswith("serving"):
        _, err = process.communicate()
        raise RuntimeError(line + err)
    with (folder / "links.csv").open() as file:
        return process, [row["link"] for row in csv.DictReader(file)]


def end(process: subprocess.Popen) -> str:
    """Kills a server as a power cut would; returns what it said on stderr."""
    process.kill()
    return process.communicate()[1]


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
