import json

import numpy as np
import pytest

from imagen_jax.data.images import encode_png
from imagen_jax.data.sources.shapes import caption, draw_scene, swap
from imagen_jax.data.sources.shapes_drawing import draw
from imagen_jax.data.sources.shapes_files import prompt_scenes
from imagen_jax.evaluate import command as evaluate
from imagen_jax.evaluation.shapes_report import (
    format_shapes_report,
    make_shapes_report,
)
from tests.commands.command import run
from tests.evaluation.conftest import write_manifest

NUM = 4


def write(folder, pairs, stage="shapes", first=0, size=64):
    """Writes a picture of the second scene of each pair, asked for as the first."""
    entries = []
    for i, (asked, drawn) in enumerate(pairs, first):
        picture = draw(drawn, (1, i), size)
        (folder / f"{i}.png").write_bytes(encode_png(picture))
        prompt = caption(asked) if asked else ""
        entries.append({"file": f"{i}.png", "prompt": prompt, "stage": stage})
    return entries


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Right pictures, but: one single is wrong, and one of a swapped pair swapped."""
    folder = tmp_path_factory.mktemp("shapes")
    scenes = [*prompt_scenes(NUM, 0)]
    pairs = [(scene, scene) for scene in scenes]
    ground = next(c for c in ("red", "blue") if c not in scenes[0].things[0])
    if ground == scenes[0].ground:
        ground = "green" if scenes[0].things[0][0] != "green" else "white"
    pairs[0] = (scenes[0], scenes[0]._replace(ground=ground))
    pairs[-1] = (scenes[-1], swap(scenes[-1]))
    other = draw_scene(9, 0, "seen", "relation")
    pairs += [(None, other)] * 3
    entries = write(folder, pairs)
    # An earlier stage's pictures do not count.
    entries = write(folder, [(scenes[5], scenes[0])], "base", first=900) + entries
    write_manifest(folder, entries)
    return folder


def test_the_report_counts_what_passes(samples):
    report = make_shapes_report(samples, minutes=44.0)
    assert report["n"] == NUM * 11
    assert report["side"] == 64
    assert len(report["groups"]) == 11
    single = report["groups"]["seen/single"]
    assert (single["n"], single["all"], single["ground"]) == (4, 0.75, 0.75)
    assert single["count"] == single["colour"] == single["binding"] == 1
    assert single["intervals"]["all"] == {"low": 0.3006, "high": 0.9544}
    binding = report["groups"]["binding/relation"]
    assert (binding["all"], binding["colour"], binding["binding"]) == (0.75, 1, 0.75)
    assert report["swapped_pairs"]["share"] == 0.5
    assert report["swapped_pairs"]["n"] == 2
    for name, row in report["groups"].items():
        assert row["real"] == 1
        # The swapped picture is right for its partner: 1 of 4 x 3.
        assert row["shuffled"] == (0.0833 if name == "binding/relation" else 0)
        assert row["unconditional"] < 0.2
    assert report["splits"]["seen"]["n"] == 4 * NUM
    assert report["splits"]["seen"]["share"] == pytest.approx(15 / 16, abs=1e-4)
    assert report["splits"]["held_out"]["n"] == 7 * NUM
    assert report["splits"]["held_out"]["share"] == pytest.approx(27 / 28, abs=1e-4)
    assert report["targets"]["seen/single"]["met"] is False
    assert report["targets"]["colour_shape/single"]["met"] is True
    assert report["targets"]["minutes"]["met"] is True
    assert report["goals"]["held_out"]["met"] is True


def test_the_shuffled_baseline_sees_a_constant_picture(tmp_path):
    """Pictures that ignore their sentences score the same against any."""
    scenes = [draw_scene(0, i, "seen", "position") for i in range(12)]
    write_manifest(tmp_path, write(tmp_path, [(s, scenes[0]) for s in scenes]))
    row = make_shapes_report(tmp_path)["groups"]["seen/position"]
    assert row["all"] == pytest.approx(1 / 12, abs=1e-3)
    assert row["shuffled"] == pytest.approx(11 / 12 / 11, abs=1e-3)
    assert row["unconditional"] is None


def test_the_command_prints_and_writes(samples, tmp_path, monkeypatch, capfd):
    out_file = tmp_path / "report.json"
    arguments = ("shapes", f"--samples={samples}", f"--out={out_file}")
    status, out, _ = run(monkeypatch, capfd, evaluate, *arguments)
    assert status == 0
    report = json.loads(out_file.read_text())
    assert out == format_shapes_report(report) + "\n"
    assert "| seen/single | 4 | 75.0 | 100.0 |" in out
    assert "- both of a swapped pair: 50.0 % of 2 (" in out
    assert "- target seen/single >= 0.95: MISSED" in out
    assert "- target minutes <= 45: not measured" in out


GOOD = {"file": "0.png", "prompt": "a red star on a blue background", "stage": "x"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (None, "has neither manifest.jsonl"),
        ([], "lists no picture; sample some first"),
        ([GOOD | {"prompt": "a fox"}], "'a fox', which is no sentence of the shapes"),
        ([GOOD | {"prompt": 3}], "file, prompt and stage must be texts"),
        ([GOOD | {"file": "9.png"}], "names 9.png, which is no file in"),
        ([GOOD | {"file": "text.png"}], "text.png cannot be read"),
        ([GOOD | {"file": "wide.png"}], "has 64 x 32 pixels; pictures must be square"),
        ([GOOD, GOOD | {"file": "128.png"}], "has 128 pixels, others have 64"),
        ([GOOD | {"prompt": ""}], "are of the empty prompt; sample some of sentences"),
        (["[]"], 'is no object with "file" and "prompt"'),
        (["{"], 'is no object with "file" and "prompt"'),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, entries, message):
    for name, shape in (("0", (64, 64)), ("wide", (32, 64)), ("128", (128, 128))):
        picture = np.zeros((*shape, 3), np.uint8)
        (tmp_path / f"{name}.png").write_bytes(encode_png(picture))
    (tmp_path / "text.png").write_text("no picture")
    if entries is not None:
        lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
        (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    out = tmp_path / "report.json"
    arguments = ("shapes", f"--samples={tmp_path}", f"--out={out}")
    status, _, errors = run(monkeypatch, capfd, evaluate, *arguments)
    assert status == 2
    assert message in errors[-1]
    assert "Traceback" not in "\n".join(errors)
    assert not out.exists()
