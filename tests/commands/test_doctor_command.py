"""The doctor command: its exit status, and each bad input it must refuse."""

import numpy as np
import pytest
from PIL import Image

from imagen_jax import doctor
from tests.commands.command import run
from tests.tiny import BASE

QUICK = {"prediction": "x0", "weighting": "x0", "times": "low_discrepancy"}


@pytest.fixture
def config(tmp_path):
    tree = {**BASE, "diffusion": QUICK}
    path = tmp_path / "config.py"
    path.write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({tree!r})\n"
    )
    return path


@pytest.fixture
def dark_folder(tmp_path):
    """Pictures in [0, 1] that were stored as bytes."""
    folder = tmp_path / "dark"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        picture = rng.integers(0, 2, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"dark picture {i}")
    return folder


def test_a_fault_ends_with_status_1_and_its_name(
    monkeypatch, capfd, config, dark_folder
):
    source = f"--config.data.source=folder:{dark_folder}"
    status, out, err = run(monkeypatch, capfd, doctor, f"--config={config}", source)
    assert status == 1
    lines = out.strip().splitlines()
    assert lines[0] == f"pictures: folder:{dark_folder}; text: fake"
    assert lines[-3] == "FAIL after 0 steps: pictures in [0, 1]"
    assert lines[-2].startswith("  FAULT pictures in [0, 1]: picture range: -1.00 to")
    assert lines[-1].startswith("    next: give the stage bytes from 0 to 255")
    assert not any("Traceback" in line for line in err)


@pytest.mark.slow
def test_a_healthy_config_ends_with_status_0_and_a_grid(
    tmp_path, monkeypatch, capfd, config
):
    status, out, _ = run(
        monkeypatch,
        capfd,
        doctor,
        f"--config={config}",
        "--shrink",
        "--config.sampler.kind=ddim",
        f"--out={tmp_path}/grid.png",
    )
    assert status == 0
    assert out.strip().splitlines()[-1].startswith("PASS after ")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 8 * 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--confg=x"], "unknown flag '--confg=x'; flags are --config, --shrink"),
        (["--config.data.store=nowhere"], "nowhere"),
        (["--config.networc.channels=8"], "did you mean 'network'"),
        (["--config.data.source=webdata"], "the data source is 'webdata'"),
        (["--config.data.source=synthetic:8:4"], "no picture that can be read at 8"),
        (["--config=nothing.py"], "no such file"),
    ],
)
def test_bad_input_is_one_sentence(monkeypatch, capfd, config, flags, message):
    status, _, err = run(monkeypatch, capfd, doctor, f"--config={config}", *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
