"""`python -m imagen_jax.evaluate sweep`: what it leaves, that it goes on, bad input."""

import csv
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from imagen_jax.bundle import write_bundle
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluate import command
from imagen_jax.evaluate import sweep as job
from imagen_jax.metrics.statistics import read_statistics
from imagen_jax.pipeline import Pipeline
from tests.commands.command import run as run_command
from tests.evaluation.tiny_extractor import tiny_extractor
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import ONE_LEVEL, tiny_stage

AXES = ("threshold=none,static", "guidance=2,3")
PROMPTS = [pair.caption for pair in openmoji.pairs("default") if pair.held_out][:2]

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Ends the command at once, as a kill does."""


@pytest.fixture(scope="module")
def base(tmp_path_factory, fill_params):
    folder = tmp_path_factory.mktemp("files")
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    weights = str(write_folder(folder / "encoder"))
    text = {"encoder": "tiny_bert", "width": CONFIG.width, "weights_path": weights}
    sampler = {"num_steps": 1}
    # The scorer of drawings compares at 64 pixels.
    network = {**ONE_LEVEL["base"], "patch_size": 8}
    stage = tiny_stage(
        "base", resolution=64, network=network, text=text, sampler=sampler
    )
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    write_bundle(stage, fill_params(abstract, 1), folder / "base")
    return folder / "base"


@pytest.fixture
def run(monkeypatch, capfd, base, tmp_path):
    monkeypatch.setattr(job, "keep_compiled", lambda: None)
    monkeypatch.setattr(job, "open_extractor", lambda *given: tiny_extractor(*made))
    made = ["FID-like (tiny)"]

    def call(*arguments, axes=AXES, features=()):
        made[1:] = features
        flags = [f"--workdirs={base}", f"--prompts={base.parent / 'prompts.txt'}"]
        flags += ["--num=2", "--num_real=8", f"--out={tmp_path / 'out'}", *arguments]
        return run_command(monkeypatch, capfd, command, "sweep", *axes, *flags)

    return call


def test_a_killed_sweep_goes_on_and_leaves_all_files(run, tmp_path, monkeypatch):
    drawn = []
    draw = Pipeline.draw

    def counted(self, plan):
        if len(drawn) == 3:
            raise Killed
        drawn.append((plan.samplers[0].threshold, plan.samplers[0].guidance_weight))
        return draw(self, plan)

    monkeypatch.setattr(Pipeline, "draw", counted)
    with pytest.raises(Killed):
        run()
    monkeypatch.setattr(Pipeline, "draw", draw)
    status, out, err = run()
    assert status == 0, err
    assert drawn == [("none", 2.0), ("none", 3.0), ("static", 2.0)]
    assert out.count("CPU-s\n") == 4  # of both runs: no cell was drawn twice
    folder = tmp_path / "out"
    with (folder / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["threshold"], row["guidance"]) for row in rows] == [
        ("none", "2"),
        ("none", "3"),
        ("static", "2"),
        ("static", "3"),
    ]
    record = json.loads((folder / "sweep.json").read_text())
    assert record["references"][0]["pictures"]["count"] == 8
    assert len(record["prompts"]) == 4
    scores = record["cells"][0]["scores"]
    names = ["object_accuracy", "ground_accuracy"]
    names += ["fid_like", "kid_like_x1000", "kid_like_x1000_se"]
    assert list(scores) == names
    assert float(rows[0]["fid_like"]) == scores["fid_like"] > 0
    words = (folder / "sweep.md").read_text()
    assert "| guidance: fid_like | threshold none | threshold static |" in words
    for name in ("sweep.png", "curve.png"):
        with Image.open(folder / name) as sheet:
            assert min(sheet.size) > 200
    # Real drawings of the same two prompts, at the pictures' own size.
    real = read_statistics(folder / "cells" / "real_8_64_efficientnet-lite0.npz")
    assert real.manifest["pictures"]["sizes"] == {"64x64": 8}


@pytest.mark.parametrize(
    ("axes", "flags", "sentence"),
    [
        (["guidanse=1,3"], [], "unknown axis 'guidanse'; did you mean guidance?"),
        (["guidance"], [], "give each setting once with its values"),
        (["threshold=hard"], [], "sampler.threshold"),
        (AXES, ["--num=0"], "--num=0; it must be at least 1"),
        (AXES, ["--batch_size=0"], "--batch_size=0; it must be at least 1"),
        (AXES, ["--set=speed=3"], "--set=speed=3 sets nothing of the sampler"),
        (AXES, ["--resolution=256"], "the stages draw pictures of 64 pixels"),
        (AXES, ["--x=beauty"], "--x=beauty is not among the figures object_accuracy"),
    ],
)
def test_bad_input_is_one_sentence(run, axes, flags, sentence, tmp_path):
    status, _, err = run(*flags, axes=axes)
    assert status == 2
    assert sentence in err[-1]
    assert not any(line.startswith("Traceback") for line in err)
    assert not (tmp_path / "out" / "sweep.json").exists()


def test_without_matplotlib_nothing_is_drawn(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = run()
    assert status == 2
    assert 'pip install "imagen_jax[eval]"' in err[-1]
    assert not (tmp_path / "out").exists()


def test_what_belongs_to_another_sweep_is_refused(run, tmp_path):
    axes = ["guidance=3"]
    assert run(axes=axes)[0] == 0
    status, _, err = run("--seed=1", axes=axes)
    assert status == 2
    assert "another sweep, which differs in seeds" in err[-1]
    reference = tmp_path / "out" / "cells" / "real_8_64_efficientnet-lite0.npz"
    other = [f"--reference={reference}", f"--out={tmp_path / 'other'}"]
    status, _, err = run(*other, axes=axes, features=["1" * 64])
    assert status == 2
    assert "the reference was made with weights_sha256" in err[-1]


def test_a_damaged_cell_is_named(run, tmp_path):
    assert run(axes=["guidance=3"])[0] == 0
    cells = tmp_path / "out" / "cells"
    (cell,) = [path for path in cells.glob("*.npz") if "real" not in path.name]
    cell.write_bytes(cell.read_bytes()[:100])
    status, _, err = run(axes=["guidance=3"])
    assert status == 2
    assert f"{cell} is damaged" in err[-1]


def test_prompts_without_real_drawings_need_a_reference(run, base, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a castle in the sky\n")
    status, _, err = run(f"--prompts={prompts}")
    assert status == 2
    assert "no real pictures of 'a castle in the sky'; give --reference=FILE" in err[-1]
    assert np.all([not p.name.endswith(".md") for p in tmp_path.rglob("*")])
