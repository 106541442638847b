import json

import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.prompts import Picture
from imagen_jax.sampling.gallery import Drawn, Gallery

PICTURES = [Picture(f"prompt {i}", "", i + 3) for i in range(7)]
STAGES = ("base", "sr16")


class Killed(Exception):
    pass


class Drawer:
    """Draws a picture from its seed, and dies after `lives` batches."""

    def __init__(self, lives=100):
        self.batches = []
        self.lives = lives

    def __call__(self, pictures):
        if len(self.batches) == self.lives:
            raise Killed
        self.batches.append([picture.seed for picture in pictures])
        return {
            stage: [Drawn(image(stage, picture.seed)) for picture in pictures]
            for stage in STAGES
        }


def image(stage, seed):
    rng = np.random.default_rng([STAGES.index(stage), seed])
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def open_gallery(folder, pictures=PICTURES, settings=None, **others):
    return Gallery(folder, pictures, STAGES, settings or {"steps": 3}, **others)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_gallery_round_trip(tmp_path):
    gallery = open_gallery(tmp_path / "g", held_out=True)
    assert gallery.fill(Drawer(), 3)
    lines = (tmp_path / "g" / "manifest.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 14
    for i, entry in enumerate(entries):
        stage, picture = STAGES[i // 7], PICTURES[i % 7]
        assert entry == {
            "file": f"{stage}/{i % 7:05d}.png",
            "prompt": picture.prompt,
            "negative": "",
            "seed": picture.seed,
            "held_out": True,
            "stage": stage,
        }
        with Image.open(tmp_path / "g" / entry["file"]) as stored:
            np.testing.assert_array_equal(
                np.asarray(stored), image(stage, entry["seed"])
            )


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    whole = open_gallery(tmp_path / "whole")
    assert whole.fill(Drawer(), 2)
    with pytest.raises(Killed):
        open_gallery(tmp_path / "g").fill(Drawer(lives=2), 2)
    assert not (tmp_path / "g" / "manifest.jsonl").exists()
    left = tmp_path / "g" / "base" / ".00004.png.0.partial"
    left.write_text("half")  # as SIGKILL leaves it
    (tmp_path / "g" / "sr16" / "00003.png").unlink()  # killed between two files
    drawer = Drawer()
    assert open_gallery(tmp_path / "g").fill(drawer, 2)
    assert drawer.batches == [[5, 6], [7, 8], [9]]  # a batch is drawn whole
    assert contents(tmp_path / "g") == contents(tmp_path / "whole")
    again = Drawer()
    assert open_gallery(tmp_path / "g").fill(again, 2)
    assert again.batches == []


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_draw_disjoint_batches_and_the_last_writes_the_manifest(tmp_path, count):
    open_gallery(tmp_path / "one").fill(Drawer(), 2)
    drawers = [Drawer() for _ in range(count)]
    finished = [
        open_gallery(tmp_path / "g").fill(drawer, 2, host=(i, count))
        for i, drawer in enumerate(drawers)
    ]
    assert finished == [False] * (count - 1) + [True]
    drawn = [seed for drawer in drawers for batch in drawer.batches for seed in batch]
    assert sorted(drawn) == [picture.seed for picture in PICTURES]
    assert contents(tmp_path / "g") == contents(tmp_path / "one")


def test_a_host_leaves_what_another_is_writing(tmp_path):
    gallery = open_gallery(tmp_path / "g")
    (tmp_path / "g" / "base").mkdir()
    partial = tmp_path / "g" / "base" / ".00002.png.0.partial"
    partial.write_text("half")
    gallery.fill(Drawer(), 2, host=(0, 2))
    assert partial.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pictures": PICTURES[:-1]}, "pictures, pictures_sha256"),
        ({"pictures": PICTURES[::-1]}, "pictures_sha256"),
        ({"settings": {"steps": 4}}, "steps"),
        ({"settings": {"steps": 3, "blend": 0.5}}, "blend"),
        ({"held_out": True}, "held_out"),
    ],
)
def test_pictures_of_another_job_are_refused(tmp_path, change, named):
    open_gallery(tmp_path).fill(Drawer(), 4)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=f"differs in {named}; give another --samples"):
        open_gallery(tmp_path, **change)
    assert contents(tmp_path) == before


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="holds files of something else"):
        open_gallery(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_damaged_job_is_refused(tmp_path, text):
    open_gallery(tmp_path)
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        open_gallery(tmp_path)
