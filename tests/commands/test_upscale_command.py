"""The upscale command on a tiny stage: one's own picture, and its bad input."""

import jax
import numpy as np
import pytest
from PIL import Image

from imagen_jax import upscale
from imagen_jax.bundle import write_bundle
from imagen_jax.sampling.colour import colour_report
from imagen_jax.sampling.png_text import read_png
from tests.commands.command import run
from tests.tiny import ONE_LEVEL, tiny_stage

PICTURE = np.random.default_rng(0).integers(60, 200, (11, 21, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a base and a super-resolution stage and pictures."""
    folder = tmp_path_factory.mktemp("files")
    for kind in ("base", "sr"):
        stage = tiny_stage(kind, network=ONE_LEVEL[kind])
        noise = np.random.default_rng(1)
        params = jax.tree.map(
            lambda leaf, noise=noise: 0.1 * noise.standard_normal(leaf.shape),
            jax.eval_shape(stage.init_params, jax.random.key(0)),
        )
        write_bundle(stage, params, folder / kind)
    Image.fromarray(PICTURE).save(folder / "picture.png")
    (folder / "words.png").write_text("no picture")
    Image.new("RGB", (4500, 4000)).save(folder / "huge.png")
    return folder


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_of_any_size_and_its_colours(tmp_path, monkeypatch, capfd, files):
    """The report is that of the file written; corrected, it is closer."""
    made, reports = {}, {}
    for name, flags in {"as_is": [], "corrected": ["--correct_colour"]}.items():
        out = tmp_path / f"{name}.png"
        status, said, err = run(
            *(monkeypatch, capfd, upscale, f"--workdir={files}/sr", f"--out={out}"),
            *(f"--picture={files}/picture.png", "--batch_size=8", *flags),
        )
        assert status == 0, err
        assert "21 x 11 pixels, 2 times enlarged" in said
        made[name] = read(out)
        assert made[name].shape == (22, 42, 3)
        recipe = read_png(out)[1]
        assert (recipe.stage, recipe.seed) == ("sr16", 0)
        assert recipe.edit["correct_colour"] == (name == "corrected")
        reports[name] = colour_report(made[name], PICTURE)
        assert str(reports[name]) in said
    assert reports["as_is"].mean > 5.0
    assert reports["corrected"].mean < 0.5 * reports["as_is"].mean


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--picture={files}/nowhere.png"], "cannot be read"),
        (["--picture={files}/words.png"], "corrupt picture"),
        (["--picture={files}/huge.png"], "give at most 16000000 pixels"),
        (["--picture={files}/picture.png", "--overlap=7"], "half of a tile"),
        (["--picture={files}/picture.png", "--out={files}/u.tga"], "must end in .png"),
        (["--picture={files}/picture.png", "--batch_size=0"], "must be at least 1"),
        (
            ["--picture={files}/picture.png", "--workdir={files}/base"],
            "is a base stage",
        ),
        (["--source=tfds:{files}:train"], "add --probe=FILE.npz"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, files, flags, message):
    """Exit status 2, the last line says it, no traceback, no picture."""
    flags = [flag.format(files=files) for flag in flags]
    common = (f"--workdir={files}/sr", f"--out={tmp_path}/out.png")
    status, _, err = run(monkeypatch, capfd, upscale, *common, *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not list(tmp_path.iterdir())
