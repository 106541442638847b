"""`python -m imagen_jax.evaluate` as a user meets it, mistakes above all."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagen_jax.data.sources import openmoji
from imagen_jax.errors import run_command
from imagen_jax.evaluate.command import jobs, main
from imagen_jax.evaluation import prompt_score
from imagen_jax.evaluation.quickstart import make_report
from imagen_jax.evaluation.reference import make_reference

from .conftest import write_manifest, write_sample

REPO = Path(__file__).parents[2]
HELD_OUT, TRAINED = openmoji.pairs("default")[:2]


def run_evaluate(*args: str) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "imagen_jax.evaluate", *args]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=REPO, check=False
    )


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Runs what `run_evaluate` does in this process, 1 s faster each."""

    def run(*args: str) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["evaluate", *args])
        monkeypatch.setattr(prompt_score, "PICTURES_PER_PAIR", 1)
        status = 0
        try:
            run_command(main)
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(args, status, out, err)

    return run


@pytest.fixture
def samples(tmp_path) -> Path:
    """The smallest folder that can be scored: one held-out picture at both stages."""
    folder = tmp_path / "samples"
    folder.mkdir()
    write_manifest(folder, write_sample(folder, HELD_OUT, HELD_OUT, 0))
    return folder


def test_command_scores_alike_and_becomes_a_reference(samples_dir, run_dir, tmp_path):
    """The whole way once, in real processes."""
    here = make_report(samples_dir, run_dir, minutes=12.5, cpu_seconds=1400.0)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(here), "utf-8")
    reference = tmp_path / "made" / "reference.json"
    reports = f"--reports={tmp_path / 'a.json'},{tmp_path / 'b.json'}"
    done = run_evaluate("quickstart-reference", reports, f"--out={reference}")
    assert done.returncode == 0, done.stderr
    done = run_evaluate(
        "quickstart",
        f"--samples={samples_dir}",
        f"--run={run_dir}",
        f"--reference={reference}",
        "--minutes=12.5",
        "--cpu_seconds=1400",
        f"--out={tmp_path / 'report.json'}",
    )
    assert done.returncode == 0, done.stderr
    there = json.loads((tmp_path / "report.json").read_text("utf-8"))
    verdict = there.pop("verdict")
    assert there == {key: here[key] for key in here if key != "verdict"}
    assert "inside the band of the reference (2 runs)" in verdict
    assert done.stdout.rstrip().endswith(verdict)


def test_a_run_outside_the_band_is_told(samples, tmp_path, evaluate):
    args = ["quickstart", f"--samples={samples}", f"--out={tmp_path / 'report.json'}"]
    assert evaluate(*args).returncode == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    reference = make_reference([report, report])
    reference["object_accuracy"].update(min=0.5, max=0.9)
    (tmp_path / "reference.json").write_text(json.dumps(reference), "utf-8")
    done = evaluate(*args, f"--reference={tmp_path / 'reference.json'}")
    assert done.returncode == 0
    assert "object_accuracy 1 is above 0.5 to 0.9" in done.stdout


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
def test_bad_folders_end_with_one_sentence(samples, tmp_path, evaluate, name):
    spoil, fragments = BAD_FOLDERS[name]
    spoil(samples)
    args = [f"--samples={samples}", f"--out={tmp_path / 'report.json'}"]
    if (tmp_path / "run").exists():
        args.append(f"--run={tmp_path / 'run'}")
    before = sorted(tmp_path.rglob("*"))
    assert_one_sentence(evaluate("quickstart", *args), fragments)
    assert sorted(tmp_path.rglob("*")) == before


BAD_ARGUMENTS = {
    "no job": ([], ["required", "JOB"]),
    "unknown job": (["fit"], ["invalid choice: 'fit'", "quickstart"]),
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
def test_bad_arguments_end_with_one_sentence(samples, tmp_path, evaluate, name):
    args, fragments = BAD_ARGUMENTS[name]
    (tmp_path / "list.json").write_text("[]", "utf-8")
    (tmp_path / "empty.json").write_text("{}", "utf-8")
    args = [arg.format(samples=samples, tmp=tmp_path) for arg in args]
    assert_one_sentence(evaluate(*args), fragments)


def test_each_job_has_a_line_of_help(evaluate):
    done = evaluate("--help")
    assert done.returncode == 0
    for name, text in jobs().items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", done.stdout, re.MULTILINE)
        assert text.endswith(".")
        assert f"evaluate {name}" in evaluate(name, "--help").stdout


def test_a_mistake_in_a_real_process(tmp_path):
    done = run_evaluate("quickstart", f"--samples={tmp_path}")
    assert_one_sentence(done, ["error: cannot read", "manifest.jsonl"])


def test_an_out_that_cannot_be_written(samples, tmp_path, evaluate):
    (tmp_path / "file").write_text("", "utf-8")
    out = f"--out={tmp_path / 'file' / 'report.json'}"
    done = evaluate("quickstart", f"--samples={samples}", out)
    assert_one_sentence(done, ["cannot write", "report.json", "--out"])
