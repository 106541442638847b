"""`python -m imagen_jax.evaluate` as a user meets it, mistakes above all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imagen_jax.data.sources import openmoji
from tests.evaluation.conftest import write_manifest, write_sample

REPO = Path(__file__).parents[2]
HELD_OUT, TRAINED = openmoji.pairs("default")[:2]


def run_evaluate(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "imagen_jax.evaluate", *args],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=False,
    )


@pytest.fixture
def samples(tmp_path) -> Path:
    """The smallest folder that can be scored: one held-out picture at both stages."""
    folder = tmp_path / "samples"
    folder.mkdir()
    write_manifest(folder, write_sample(folder, HELD_OUT, HELD_OUT, 0))
    return folder


def test_scores_twice_alike_and_becomes_a_reference(samples_dir, run_dir, tmp_path):
    def score(out: str, *more: str) -> dict:
        done = run_evaluate(
            "quickstart",
            f"--samples={samples_dir}",
            f"--run={run_dir}",
            "--minutes=12.5",
            "--cpu_seconds=1400",
            f"--out={tmp_path / out}",
            *more,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / out).read_text("utf-8"))
        assert done.stdout.rstrip().endswith(report["verdict"])
        return report

    no_reference = score("a.json"), score("b.json")
    assert no_reference[0] == no_reference[1]
    assert no_reference[0]["minutes"] == 12.5
    assert no_reference[0]["targets"]["time"]["met"] is True
    reference = tmp_path / "made" / "reference.json"
    done = run_evaluate(
        "quickstart-reference",
        f"--reports={tmp_path / 'a.json'},{tmp_path / 'b.json'}",
        f"--out={reference}",
    )
    assert done.returncode == 0, done.stderr
    compared = score("c.json", f"--reference={reference}")
    assert "inside the band of the reference (2 runs)" in compared["verdict"]
    bands = json.loads(reference.read_text("utf-8"))
    bands["object_accuracy"].update(min=0.8, max=0.9)
    reference.write_text(json.dumps(bands), "utf-8")
    compared = score("d.json", f"--reference={reference}")
    assert "object_accuracy 0.75 is below 0.8 to 0.9" in compared["verdict"]


def edit_manifest(samples: Path, **changes) -> None:
    """Changes fields of the manifest's last line."""
    path = samples / "manifest.jsonl"
    *others, last = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    write_manifest(samples, [*others, last | changes])


def append_line(samples: Path, line: str) -> None:
    with (samples / "manifest.jsonl").open("a") as file:
        file.write(line + "\n")


def write_probe(samples: Path, **arrays) -> None:
    (samples.parent / "run").mkdir()
    np.savez(samples.parent / "run" / "sr_probe.npz", **arrays)


def cut_a_picture(samples: Path) -> None:
    file = next(samples.glob("*sr256.png"))
    file.write_bytes(file.read_bytes()[:500])


def repeat_a_line(samples: Path) -> None:
    append_line(samples, (samples / "manifest.jsonl").read_text().splitlines()[0])


def list_only_trained_pairs(samples: Path) -> None:
    write_manifest(samples, write_sample(samples, TRAINED, TRAINED, 0))


def write_small_picture(samples: Path) -> None:
    from PIL import Image

    file = next(samples.glob("*base.png"))
    Image.new("RGB", (32, 32)).save(file)


GREY = np.zeros((2, 64, 64, 3), np.uint8)
BAD_FOLDERS = {
    "no manifest": (
        lambda samples: (samples / "manifest.jsonl").unlink(),
        ["cannot read", "manifest.jsonl", "No such file", "--samples must name"],
    ),
    "empty manifest": (
        lambda samples: write_manifest(samples, []),
        ["lists no picture", "sample some first"],
    ),
    "a missing file": (
        lambda samples: edit_manifest(samples, file="gone.png"),
        ["line 2", "gone.png", "does not exist", "sample it again"],
    ),
    "not JSON": (
        lambda samples: append_line(samples, '{"file": '),
        ["line 3", "is not JSON", "one JSON object"],
    ),
    "not an object": (
        lambda samples: append_line(samples, "[1, 2]"),
        ["line 3", "is not a JSON object"],
    ),
    "a prompt outside the set": (
        lambda samples: edit_manifest(samples, prompt="a zebra on a red background"),
        ["line 2", "a zebra on a red background", "not in the OpenMoji set 'default'"],
    ),
    "a seed that is no number": (
        lambda samples: edit_manifest(samples, seed="7"),
        ["line 2", "seed = '7'", "must be a int"],
    ),
    "an unknown stage": (
        lambda samples: edit_manifest(samples, stage="sr1024"),
        ["line 2", "'sr1024'", "base or sr256"],
    ),
    "a wrong held_out": (
        lambda samples: edit_manifest(samples, held_out=False),
        ["line 2", "held_out = False", "says True"],
    ),
    "a picture listed twice": (repeat_a_line, ["line 3", "repeats seed 0", "once"]),
    "no held-out pair": (
        list_only_trained_pairs,
        ["none of the 2 pictures", "sample the held-out prompts"],
    ),
    "an unreadable picture": (
        cut_a_picture,
        ["cannot read the picture", "sr256.png", "corrupt picture", "sample it again"],
    ),
    "a picture that is too small": (
        write_small_picture,
        ["base.png has 32 x 32 pixels", "at least 64"],
    ),
    "a probe without its arrays": (
        lambda samples: write_probe(samples, truth=GREY),
        ["sr_probe.npz", "truth, low_res, output"],
    ),
    "a probe that does not fit": (
        lambda samples: write_probe(
            samples, truth=GREY, low_res=GREY[:, :16, :16], output=GREY[:1]
        ),
        ["uint8[1, 64, 64, 3]", "they must be"],
    ),
}


def assert_one_sentence(done: subprocess.CompletedProcess, fragments: list[str]):
    """Exit status 2, no traceback, and the last line of stderr says it all."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for fragment in fragments:
        assert fragment in last
    assert done.stdout == ""


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_end_with_one_sentence(samples, tmp_path, name):
    spoil, fragments = BAD_FOLDERS[name]
    spoil(samples)
    args = [f"--samples={samples}", f"--out={tmp_path / 'report.json'}"]
    if (tmp_path / "run").exists():
        args.append(f"--run={tmp_path / 'run'}")
    before = sorted(tmp_path.rglob("*"))
    assert_one_sentence(run_evaluate("quickstart", *args), fragments)
    assert sorted(tmp_path.rglob("*")) == before


BAD_ARGUMENTS = {
    "no command": ([], ["required", "command"]),
    "unknown command": (["fid"], ["invalid choice: 'fid'", "quickstart"]),
    "no samples": (["quickstart"], ["required", "--samples"]),
    "unknown flag": (
        ["quickstart", "--samples={samples}", "--stage=base"],
        ["unrecognized", "--stage"],
    ),
    "minutes that are no number": (
        ["quickstart", "--samples={samples}", "--minutes=nan"],
        ["--minutes", "'nan'"],
    ),
    "a run that is no folder": (
        ["quickstart", "--samples={samples}", "--run={tmp}/gone"],
        ["gone", "not a folder"],
    ),
    "a reference that is missing": (
        ["quickstart", "--samples={samples}", "--reference={tmp}/gone.json"],
        ["cannot read", "gone.json"],
    ),
    "a reference that is none": (
        ["quickstart", "--samples={samples}", "--reference={tmp}/list.json"],
        ["list.json", "not a JSON object"],
    ),
    "a report that is none": (
        ["quickstart-reference", "--reports={tmp}/empty.json", "--out={tmp}/r.json"],
        ["empty.json is no quickstart report"],
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_end_with_one_sentence(samples, tmp_path, name):
    args, fragments = BAD_ARGUMENTS[name]
    (tmp_path / "list.json").write_text("[]", "utf-8")
    (tmp_path / "empty.json").write_text("{}", "utf-8")
    args = [arg.format(samples=samples, tmp=tmp_path) for arg in args]
    assert_one_sentence(run_evaluate(*args), fragments)


def test_an_out_that_cannot_be_written(samples, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    done = run_evaluate(
        "quickstart", f"--samples={samples}", f"--out={tmp_path}/file/report.json"
    )
    assert_one_sentence(done, ["cannot write", "report.json", "--out"])
