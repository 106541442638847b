"""`evaluate statistics` and `evaluate fid` as a user meets them, mistakes above all."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from imagen_jax.evaluate import command, fid, statistics
from imagen_jax.features.extractor import Extractor, Features
from tests.commands.command import run


def extract(batch):
    means = batch.mean(axis=(1, 2))
    return Features(means, means - 1)


def tiny_extractor(name, weights=None):
    """Mean colours: a network that every test has."""
    return Extractor(
        name="FID-like (mean colour)",
        kernel_name="KID-like (mean colour)",
        identity={"name": name, "weights_sha256": str(weights), "resize": "none"},
        width=3,
        prepare=lambda picture: picture.astype(np.float32) / 255,
        extract=extract,
        multiple=2,
    )


@pytest.fixture
def evaluate(monkeypatch, capfd):
    for job in (fid, statistics):
        monkeypatch.setattr(job, "open_extractor", tiny_extractor)
    return lambda *args: run(monkeypatch, capfd, command, *args)


@pytest.fixture
def folders(tmp_path):
    """Two folders of 6 pictures, and a reference made of the second one."""
    for seed, name in enumerate(("made", "real")):
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(seed)
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def test_a_reference_and_a_score(folders, evaluate):
    reference = folders / "real.npz"
    status, out, _ = evaluate(
        "statistics",
        f"--pictures={folders / 'real'}",
        f"--out={reference}",
        "--dataset=dots",
        "--split=val",
    )
    assert status == 0
    expected = "dots, val: 6 pictures, inception, features of 6"
    assert out.splitlines()[-1] == f"{expected}: {reference}"
    made, result = f"--pictures={folders / 'made'}", folders / "out" / "result.json"
    args = ["fid", made, f"--out={result}"]
    status, out, _ = evaluate(*args, f"--reference={reference}")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "6 pictures against 6 (dots, val)"
    assert lines[1].startswith("FID-like (mean colour): ")
    assert lines[2].startswith("KID-like (mean colour) x 1000: ")
    assert "(one subset of 6)" in lines[2]
    assert lines[3].startswith("precision ")
    assert lines[4].startswith("Inception score: ")
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert any("published figures have at least" in line for line in warnings)
    content = json.loads(result.read_text())
    assert [f"warning: {text}" for text in content["warnings"]] == warnings
    assert content["reference"]["dataset"] == "dots"
    assert content["generated"]["pictures"]["count"] == 6
    # A folder as the reference gives the same figures.
    status, out, _ = evaluate(*args, f"--reference={folders / 'real'}")
    assert status == 0
    assert out.splitlines()[1:5] == lines[1:5]


def test_subsets_are_printed_with_their_deviation(folders, evaluate):
    (folders / "made" / "5.png").unlink()
    args = [f"--pictures={folders / 'made'}", f"--reference={folders / 'real'}"]
    status, out, _ = evaluate("fid", *args)
    assert status == 0
    assert re.search(r"x 1000: -?[\d.]+ \(std [\d.]+ over 100 subsets of 5\)", out)


def cut(folders):
    path = folders / "made" / "3.png"
    path.write_bytes(path.read_bytes()[:70])


def resize_one(folders):
    Image.new("RGB", (9, 8)).save(folders / "made" / "3.png")


def empty(folders, keep=0):
    for path in sorted((folders / "made").iterdir())[keep:]:
        path.unlink()


BAD_FID = {
    "empty folder": (empty, [], ["made has no picture", "give a folder"]),
    "one picture": (lambda f: empty(f, 1), [], ["has 1 picture", "at least 2"]),
    "corrupt picture": (cut, [], ["3.png", "corrupt picture", "take it away"]),
    "mixed sizes": (resize_one, [], ["3.png has 9x8", "0.png 8x8", "--square"]),
    "other features": (
        None,
        ["--features=dinov2"],
        ["made with name 'inception' instead of 'dinov2'", "same features"],
    ),
    "other weights": (
        None,
        ["--weights=b.pth"],
        ["weights_sha256 'None' instead of 'b.pth'"],
    ),
    "no reference": (
        lambda folders: (folders / "real.npz").unlink(),
        [],
        ["there is no reference", "evaluate statistics"],
    ),
    "no folder": (lambda f: (f / "made").rename(f / "x"), [], ["is no folder"]),
    "batch_size": (None, ["--batch_size=0"], ["--batch_size is 0; it must be at"]),
    "seed": (None, ["--seed=-1"], ["--seed is -1; it must be at least 0"]),
    "square": (None, ["--square=0"], ["--square is 0; it must be at least 1"]),
    "unknown features": (None, ["--features=vgg"], ["invalid choice: 'vgg'"]),
}


@pytest.mark.parametrize("name", BAD_FID)
def test_bad_scores_end_with_one_sentence(folders, evaluate, name):
    spoil, more, fragments = BAD_FID[name]
    reference = folders / "real.npz"
    args = [f"--pictures={folders / 'real'}", f"--out={reference}"]
    assert evaluate("statistics", *args)[0] == 0
    if spoil:
        spoil(folders)
    before = sorted(folders.rglob("*"))
    args = [f"--pictures={folders / 'made'}", f"--reference={reference}"]
    out = folders / "result.json"
    check_sentence(evaluate("fid", *args, f"--out={out}", *more), fragments)
    assert sorted(folders.rglob("*")) == before


BAD_STATISTICS = {
    "keep": (["--keep=1"], ["--keep is 1; it must be at least 2"]),
    "batch_size": (["--batch_size=0"], ["--batch_size is 0; it must be at"]),
    "seed": (["--seed=-1"], ["--seed is -1; it must be at least 0"]),
    "out": (["--out={real}/0.png/x.npz"], ["cannot write", "another --out"]),
    "pictures": (["--pictures={real}/gone"], ["gone is no folder"]),
}


@pytest.mark.parametrize("name", BAD_STATISTICS)
def test_bad_references_end_with_one_sentence(folders, evaluate, name):
    more, fragments = BAD_STATISTICS[name]
    args = [f"--pictures={folders / 'real'}", f"--out={folders / 'r.npz'}"]
    args += [arg.format(real=folders / "real") for arg in more]
    before = sorted(folders.rglob("*"))
    check_sentence(evaluate("statistics", *args), fragments)
    assert sorted(folders.rglob("*")) == before


def check_sentence(done, fragments):
    status, out, err = done
    assert status == 2
    assert out == ""
    assert not any("Traceback" in line for line in err)
    for fragment in fragments:
        assert fragment in err[-1]
