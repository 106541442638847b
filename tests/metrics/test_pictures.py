import hashlib
import subprocess

import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.metrics.pictures import Survey, crop_square, open_folder, warnings_of


def survey(folder, square=None):
    found = Survey(open_folder(folder, square))
    return list(found.read()), found.manifest()


def test_manifest_of_a_plain_folder(write_folder):
    folder = write_folder("plain", 5)
    (folder / "notes.txt").write_text("no picture")
    pixels, manifest = survey(folder)
    assert [p.shape for p in pixels] == [(16, 16, 3)] * 5
    lines = subprocess.run(
        ["sha256sum", *sorted(p.name for p in folder.glob("*.png"))],
        cwd=folder,
        capture_output=True,
        check=True,
    ).stdout
    assert manifest == {
        "folder": "plain",
        "count": 5,
        "square": None,
        "crop": "none",
        "sizes": {"16x16": 5},
        "modes": {"RGB": 5},
        "formats": {"PNG": 5},
        "copies": 0,
        "sha256": hashlib.sha256(lines).hexdigest(),
    }
    assert warnings_of(manifest) == []


def test_the_hash_is_of_contents_and_names(write_folder):
    folder = write_folder("plain", 3)
    before = survey(folder)[1]["sha256"]
    (folder / "0000.png").rename(folder / "0009.png")
    assert survey(folder)[1]["sha256"] != before


def test_mixed_sizes_are_refused_or_cropped(write_folder):
    folder = write_folder("mixed", 3)
    Image.new("RGB", (30, 20), "red").save(folder / "z.png")
    with pytest.raises(UserError, match=r"z.png has 30x20.*0000.png 16x16.*--square"):
        survey(folder)
    pixels, manifest = survey(folder, 8)
    assert {p.shape for p in pixels} == {(8, 8, 3)}
    assert manifest["square"] == 8
    assert "bicubic" in manifest["crop"]
    assert manifest["sizes"] == {"16x16": 3, "30x20": 1}


def test_mixed_modes_formats_and_copies_are_said(write_folder):
    folder = write_folder("modes", 4)
    Image.new("L", (16, 16), 7).save(folder / "grey.png")
    Image.new("RGB", (16, 16), (7, 7, 7)).save(folder / "same.png")
    Image.new("RGB", (16, 16), "blue").save(folder / "x.jpg")
    modes, formats, copies = warnings_of(survey(folder)[1])
    assert "mixed modes (1 L, 6 RGB)" in modes
    assert "mixed formats (JPEG, PNG)" in formats
    # The grey picture and its colour twin have the same pixels.
    assert "1 of 7 pictures are copies" in copies


def test_crops_the_centre():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200
    np.testing.assert_array_equal(crop_square(picture, 10), np.full((10, 10, 3), 200))
    np.testing.assert_array_equal(crop_square(picture, 5), np.full((5, 5, 3), 200))


def corrupt(folder):
    path = folder / "0001.png"
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda folder: [p.unlink() for p in folder.iterdir()], "has no picture; give"),
        (corrupt, r"cannot read the picture .*0001.png \(corrupt picture"),
    ],
)
def test_bad_folders(write_folder, spoil, text):
    folder = write_folder("bad", 3)
    spoil(folder)
    with pytest.raises(UserError, match=text):
        survey(folder)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        open_folder(tmp_path / "gone")
