"""`python -m imagen_jax.evaluate coco` on a stand-in folder: result, hosts, misuse."""

import json

import pytest

from imagen_jax.evaluate import coco as job
from imagen_jax.evaluate import command
from imagen_jax.evaluation.coco import draw_captions, open_coco
from imagen_jax.metrics.statistics import read_statistics
from imagen_jax.prompts import first_seed
from tests.cascades import write_cascade_files
from tests.commands.command import run as run_command
from tests.evaluation.coco_folder import write_coco
from tests.evaluation.tiny_extractor import tiny_extractor

COUNT = 6  # pictures of the set; twice as many captions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory, fill_params):
    folder = write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)
    write_coco(folder / "coco", COUNT)
    return folder


@pytest.fixture
def run(monkeypatch, capfd, files, tmp_path):
    monkeypatch.setattr(job, "keep_compiled", lambda: None)

    def call(*arguments, features=("FID",)):
        extractor = tiny_extractor(*features)
        monkeypatch.setattr(job, "open_extractor", lambda *given: extractor)
        flags = {
            "--coco": files / "coco",
            "--workdirs": files / "base",
            "--resolution": 8,
            "--num": 9,
            "--batch_size": 8,
            "--out": tmp_path / "out",
        }
        flags |= dict(argument.split("=", 1) for argument in arguments)
        words = [f"{name}={value}" for name, value in flags.items()]
        return run_command(monkeypatch, capfd, command, "coco", *words)

    return call


def test_the_row_stands_in_table_1_and_the_result_says_what_it_is(run, files, tmp_path):
    cascade = f"--workdirs={files / 'base'},{files / 'sr'}"
    status, out, err = run(cascade, "--resolution=16", "--name=tiny", "--seed=5")
    assert status == 0, err
    folder = tmp_path / "out"
    report = json.loads((folder / "coco.json").read_text())
    drawn = draw_captions(open_coco(files / "coco").captions, 9, 5)
    lines = (folder / "samples" / "manifest.jsonl").read_text().splitlines()
    pictures = [json.loads(line) for line in lines]
    assert [entry["prompt"] for entry in pictures] == [c.text for c in drawn]
    assert pictures[0]["seed"] == first_seed(drawn[0].text, 5)
    assert {entry["stage"] for entry in pictures} == {"sr16"}
    reference = read_statistics(folder / "reference.npz").manifest
    assert report["reference"] == reference
    assert reference["pictures"]["count"] == COUNT  # the whole set, not the drawn
    assert reference["pictures"]["formats"] == {"JPEG": COUNT}
    for which in ("generated", "reference"):
        assert report[which]["pictures"]["square"] == 16
        assert report[which]["pictures"]["crop"].startswith("central square")
    assert report["generated"]["pictures"]["count"] == 9
    assert (report["captions"]["seed"], report["captions"]["count"]) == (5, 9)
    assert report["drawn_with"]["samplers"]
    row = f"> tiny        {report['frechet']['value']:9.2f}"
    assert row.split() in [line.split() for line in out.splitlines()]
    for words in ("9 pictures, not 30,000", "16 x 16 pixels, not 256", "warning: "):
        assert words in out
    assert (folder / "table1.txt").read_text().strip() in out


def test_machines_share_the_work_and_the_last_one_scores(run, tmp_path):
    status, out, _ = run("--hosts=1/2")
    assert status == 0
    assert "other machines have pictures to draw yet" in out
    pictures = tmp_path / "out" / "samples" / "base"
    assert [path.name for path in pictures.iterdir()] == ["00008.png"]
    before = next(pictures.iterdir()).stat().st_mtime_ns
    assert not (tmp_path / "out" / "coco.json").exists()
    status, out, _ = run("--hosts=0/2")
    assert status == 0
    assert "Table 1" in out
    assert len(list(pictures.iterdir())) == 9
    assert (pictures / "00008.png").stat().st_mtime_ns == before


def test_a_reference_serves_again_and_other_features_are_refused(run, tmp_path):
    assert run()[0] == 0
    reference = tmp_path / "out" / "reference.npz"
    made = reference.stat().st_mtime_ns
    given = f"--reference={reference}"
    status, out, _ = run(
        given, f"--out={tmp_path / 'b'}", features=("FID-like (tiny)",)
    )
    assert status == 0
    assert "FID-like (tiny), tiny features, 9 pictures: another measure" in out
    assert reference.stat().st_mtime_ns == made
    assert not (tmp_path / "b" / "reference.npz").exists()
    other = ("FID", "1" * 64)
    status, _, err = run(given, f"--out={tmp_path / 'c'}", features=other)
    assert status == 2
    assert "the reference was made with weights_sha256" in err[-1]
    assert not (tmp_path / "c").exists()  # told before anything is drawn
    status, _, err = run(given, f"--out={tmp_path / 'c'}", "--resolution=4")
    assert status == 2
    assert f"--reference={reference} is of 6 pictures, their squares" in err[-1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--coco=nowhere"], "--coco=nowhere has no annotations; give COCO's own"),
        (["--num=13"], "--num=13 captions cannot be drawn from 12; give 1 to 12"),
        (["--num=0"], "--num=0 captions cannot be drawn"),
        (["--resolution=256"], "the stages draw pictures of 8 pixels"),
        (["--hosts=2/2"], "machines are numbered from 0 to N - 1"),
        (["--set=threshold=hard"], "sampler.threshold"),
    ],
)
def test_bad_input_is_one_sentence(run, tmp_path, flags, sentence):
    status, _, err = run(*flags)
    assert status == 2
    assert sentence in err[-1]
    assert not any(line.startswith("Traceback") for line in err)
    assert not (tmp_path / "out").exists()


def test_a_missing_or_broken_picture_is_named(run, tmp_path):
    folder = write_coco(tmp_path / "coco", 2)
    picture = folder / "val2014" / "COCO_val2014_000000000049.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    status, _, err = run(f"--coco={folder}", "--num=3")
    assert status == 2
    assert f"cannot read the picture {picture}" in err[-1]
    picture.unlink()
    status, _, err = run(f"--coco={folder}", "--num=3")
    assert status == 2
    assert f"are missing (the first is {picture})" in err[-1]


def test_inception_without_weights_stops_before_anything_is_drawn(
    monkeypatch, capfd, files, tmp_path
):
    words = [f"--coco={files / 'coco'}", f"--workdirs={files / 'base'}", "--num=3"]
    words.append(f"--out={tmp_path / 'out'}")
    monkeypatch.setattr(job, "keep_compiled", lambda: None)
    status, _, err = run_command(monkeypatch, capfd, command, "coco", *words)
    assert status == 2
    assert "Inception needs its weights" in err[-1]
    assert not (tmp_path / "out").exists()
