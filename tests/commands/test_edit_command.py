"""The edit command on tiny bundles: a picture in, pictures out, and its bad input."""

import jax
import numpy as np
import pytest
from PIL import Image

from imagen_jax import edit
from imagen_jax.bundle import write_bundle
from tests.commands.command import run
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import ONE_LEVEL, tiny_stage

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[4:12, 4:12] = 255


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with an encoder, two stages that were trained with it, and pictures."""
    folder = tmp_path_factory.mktemp("files")
    text = {
        "encoder": "tiny_bert",
        "width": CONFIG.width,
        "max_length": 8,
        "weights_path": str(write_folder(folder / "encoder")),
    }
    for kind in ("base", "sr"):
        stage = tiny_stage(kind, text=text, network=ONE_LEVEL[kind])
        noise = np.random.default_rng(1)
        params = jax.tree.map(
            lambda leaf, noise=noise: 0.1 * noise.standard_normal(leaf.shape),
            jax.eval_shape(stage.init_params, jax.random.key(0)),
        )
        write_bundle(stage, params, folder / kind)
    Image.fromarray(PICTURE).save(folder / "picture.png")
    Image.fromarray(MASK).save(folder / "mask.png")
    Image.fromarray(MASK[:8]).save(folder / "small_mask.png")
    Image.fromarray(MASK * 0).save(folder / "black.png")
    wide = np.concatenate([PICTURE, PICTURE[:, :8]], axis=1)
    Image.fromarray(wide).save(folder / "wide.png")
    (folder / "broken.png").write_bytes((folder / "picture.png").read_bytes()[:90])
    (folder / "words.png").write_text("no picture")
    return folder


def call(monkeypatch, capfd, files, out, *flags):
    where = (f"--workdirs={files}/base,{files}/sr", "--prompt=a fox", f"--out={out}")
    return run(monkeypatch, capfd, edit, *where, *flags)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_strength_0_gives_the_file_back(tmp_path, monkeypatch, capfd, files):
    out = tmp_path / "new" / "edited.png"
    flags = (f"--picture={files}/picture.png", "--strength=0")
    status, said, err = call(monkeypatch, capfd, files, out, *flags)
    assert status == 0, err
    assert str(out) in said
    np.testing.assert_array_equal(read(out), PICTURE)


def test_inpainting_keeps_the_pixels_outside_the_mask(
    tmp_path, monkeypatch, capfd, files
):
    out = tmp_path / "edited.png"
    flags = [f"--picture={files}/picture.png", f"--mask={files}/mask.png", "--num=2"]
    flags += ["--repeats=2", "--steps=2", "--guidance=2"]
    status, _, err = call(monkeypatch, capfd, files, out, *flags)
    assert status == 0, err
    first, second = (read(tmp_path / f"edited_{i}.png") for i in range(2))
    known = MASK == 0
    for made in (first, second):
        np.testing.assert_array_equal(made[known], PICTURE[known])
        assert np.mean(made[~known] != PICTURE[~known]) > 0.9
    assert np.mean(first[~known] != second[~known]) > 0.5


def test_variations_and_a_picture_of_another_size(tmp_path, monkeypatch, capfd, files):
    out = tmp_path / "between.png"
    flags = ["--seeds=3,8", "--num=3", f"--picture={files}/wide.png", "--strength=0.9"]
    status, said, err = call(monkeypatch, capfd, files, out, *flags)
    assert status == 0, err
    assert "the central square of the picture of 24 x 16 pixels" in said
    made = [read(tmp_path / f"between_{i}.png") for i in range(3)]
    assert len({picture.tobytes() for picture in made}) == 3
    assert made[0].shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "there is nothing to edit"),
        (["--picture={files}/nowhere.png"], "cannot be read"),
        (["--picture={files}/broken.png"], "corrupt picture"),
        (["--picture={files}/words.png"], "corrupt picture"),
        (["--picture={files}"], "cannot be read"),
        (["--picture={files}/picture.png", "--strength=2"], "must be in [0, 1]"),
        (["--strength=0.5", "--seeds=1,2"], "give the picture too"),
        (
            ["--picture={files}/picture.png", "--mask={files}/small_mask.png"],
            "the mask has 16 x 8 pixels and the picture 16 x 16",
        ),
        (
            ["--picture={files}/picture.png", "--mask={files}/black.png"],
            "black everywhere",
        ),
        (
            ["--picture={files}/picture.png", "--mask={files}/words.png"],
            "--mask=",
        ),
        (["--seeds=1,2", "--out={files}/edited.jpg"], "must end in .png"),
        (["--seeds=1"], "two whole numbers"),
        (["--seeds=1,-2"], "two whole numbers"),
        (["--seeds=1,99999999999"], "two whole numbers"),
        (["--seeds=1,2", "--num=0"], "must be at least 1"),
        (["--picture={files}/picture.png", "--repeats=0"], "at least 1"),
        (
            ["--picture={files}/picture.png", "--workdirs={files}/sr"],
            "needs a low-res picture",
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, files, flags, message):
    """Exit status 2, the last line says it, no traceback, no picture."""
    flags = [flag.format(files=files) for flag in flags]
    out = tmp_path / "edited.png"
    status, _, err = call(monkeypatch, capfd, files, out, *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not list(tmp_path.iterdir())
