"""`evaluate sr`, `evaluate folder` and `evaluate prompts`, as a user meets them."""

import json

import numpy as np
import pytest

from imagen_jax.data.images import box_downsample
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.evaluate import command as evaluate
from imagen_jax.evaluation.folder_report import (
    format_folder_report,
    make_folder_report,
)
from imagen_jax.evaluation.samples import SRProbe
from imagen_jax.evaluation.sr_report import make_sr_report
from imagen_jax.evaluation.super_resolution import sr_metrics, upsample_bicubic
from tests.commands.command import run
from tests.data.sources.archives import png

STEPS = 40


def make_probe(num, noise=4.0):
    """A stage that gives the truth with some noise: better than bicubic on edges."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)
    low_res = np.stack([box_downsample(picture, 4) for picture in truth])
    output = np.clip(truth + noise * rng.standard_normal(truth.shape), 0, 255)
    return SRProbe(truth, low_res, output.astype(np.uint8))


@pytest.fixture
def folder_run(tmp_path):
    """A run as train_folder.sh leaves it: 20 pictures, one more without a caption."""
    pictures, folder = tmp_path / "pictures", tmp_path / "run"
    pictures.mkdir()
    for i in range(20):
        (pictures / f"{i}.png").write_bytes(png(i))
        (pictures / f"{i}.txt").write_text(f"picture {i % 10},\n  on two lines")
    (pictures / "bare.png").write_bytes(png(1))
    build_index([str(pictures)], str(folder / "index"), IndexOptions())
    for stage, end in (("base", 0.1), ("sr256", 0.95)):
        (folder / stage).mkdir()
        config = json.dumps({"train": {"batch_size": 5}})
        (folder / stage / "config.json").write_text(config)
        lines = [
            {"step": step, "loss": 1 + (end - 1) * step / STEPS, "num_skipped": 2.0}
            | ({"pictures_per_sec": 10.0} if step > 1 else {"pictures_per_sec": 0.1})
            for step in range(1, STEPS + 1)
        ]
        if stage == "base":
            held_out = ((10, 0.5), (20, 0.3), (30, 0.4))
            lines += [{"step": step, "heldout/loss": loss} for step, loss in held_out]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / stage / "metrics.jsonl").write_text(text)
    np.savez(folder / "sr_probe.npz", **make_probe(2)._asdict())
    return folder


def test_pictures_that_repeat_count_once():
    probe = make_probe(4)
    report = make_sr_report(probe)
    repeated = SRProbe(*(array[[0, 1, 1, 2, 3, 0]] for array in probe))
    assert make_sr_report(repeated) == report
    assert report["n"] == 4
    metrics = sr_metrics(probe.output, probe.truth, probe.low_res)
    assert report["gain_db"] == pytest.approx(metrics.gain_db.mean(), abs=1e-4)
    assert report["gain_db"] > 5
    ends = report["intervals"]["gain_db"]
    assert ends["low"] < report["gain_db"] < ends["high"]


@pytest.mark.parametrize(
    ("num", "noise", "words"),
    [
        (3, 4.0, []),
        (1, 4.0, ["no other picture to compare with"]),
        (3, 250.0, ["not better than bicubic", "Below 25 dB it changes"]),
    ],
)
def test_sr_says_and_writes(tmp_path, monkeypatch, capfd, num, noise, words):
    np.savez(tmp_path / "probe.npz", **make_probe(num, noise)._asdict())
    flags = ["sr", f"--probe={tmp_path}/probe.npz", f"--out={tmp_path}/sr.json"]
    status, out, _ = run(monkeypatch, capfd, evaluate, *flags)
    assert status == 0
    report = json.loads((tmp_path / "sr.json").read_text())
    assert f"On {num} true low-res pictures: {report['gain_db']:.2f} dB" in out
    for said in ("no other picture", "not better than", "Below 25 dB"):
        assert (said in out) == any(said in word for word in words)


def test_a_gain_within_its_interval_is_said(tmp_path, monkeypatch, capfd):
    probe = make_probe(2)
    bicubic = upsample_bicubic(probe.low_res, 16)
    output = np.stack([probe.output[0], bicubic[1]])
    np.savez(tmp_path / "p.npz", **probe._replace(output=output)._asdict())
    _, out, _ = run(monkeypatch, capfd, evaluate, "sr", f"--probe={tmp_path}/p.npz")
    assert "The interval holds 0: too few pictures" in out


def test_the_report_of_a_folder(folder_run, monkeypatch, capfd):
    flags = ["folder", f"--run={folder_run}", "--minutes=1.25", "--cpu_seconds=140"]
    status, out, _ = run(monkeypatch, capfd, evaluate, *flags)
    assert status == 0
    report = json.loads((folder_run / "report.json").read_text())
    assert (report["minutes"], report["cpu_seconds"]) == (1.25, 140.0)
    counts = report["pictures"]
    assert (counts["kept"], counts["captions"]) == (20, 10)
    assert counts["train"] + counts["held_out"] == 20
    assert counts["dropped"] == {"no caption": 1}
    base = report["stages"]["base"]
    assert base["steps"] == STEPS
    assert base["loss_first"] == pytest.approx(1 - 0.9 * 2.5 / STEPS)
    assert base["loss_last"] == pytest.approx(1 - 0.9 * 38.5 / STEPS)
    assert len(base["losses"]) == 10
    assert (base["pictures_per_sec"], base["skipped"]) == (10.0, 2)
    found = [base[f"heldout_{name}"] for name in ("last", "lowest", "lowest_step")]
    assert found == [0.4, 0.3, 20]
    assert report["stages"]["sr256"]["heldout_last"] is None
    assert report["super_resolution"]["n"] == 2
    assert report["files"]["base stage"] == "base/"
    assert "samples of your prompts" not in report["files"]
    notes = " ".join(report["notes"])
    assert "training pictures are few" in notes
    views = STEPS * 5 / counts["train"]
    assert f"Stage base saw each training picture {views:.1f} times." in notes
    assert "loss of stage sr256 has hardly fallen" in notes
    assert "The loss of stage base" not in notes
    assert "held-out loss of stage base was lowest at step 20 and rose" in notes
    assert "held-out loss of stage sr256" not in notes
    text = (folder_run / "report.md").read_text()
    assert out == text + "\n"
    assert "| base | 40 | 5 | 0.94375 | 0.13375 | 0.4 | 10 |" in text
    assert "1.2 minutes, 140 CPU s" in text


def test_what_is_missing_is_said(folder_run):
    (folder_run / "sr_probe.npz").unlink()
    (folder_run / "sr256" / "metrics.jsonl").unlink()
    report = make_folder_report(folder_run)
    assert report["super_resolution"] is report["stages"]["sr256"] is None
    assert "Stage sr256 has not been trained." in report["notes"]
    assert "The super-resolution stage was not measured." in report["notes"]
    assert "| sr256 | - | - | - | - | - | - |" in format_folder_report(report, "x")


def test_prompts_are_distinct_and_on_a_line_each(folder_run, monkeypatch, capfd):
    out = folder_run / "prompts.txt"
    flags = ["prompts", f"--source=index:{folder_run}/index", f"--out={out}"]
    status, said, _ = run(monkeypatch, capfd, evaluate, *flags, "--num=4")
    assert (status, said) == (0, f"4 of 10 captions: {out}\n")
    lines = out.read_text().splitlines()
    assert len(set(lines)) == 4
    assert all(line.endswith(", on two lines") for line in lines)
    run(monkeypatch, capfd, evaluate, *flags, "--num=99")
    assert len(out.read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["sr", "--probe={run}/none.npz"], "cannot read {run}/none.npz (No such file"),
        (["sr", "--probe={run}/flat.npz"], "uint8[], uint8[], uint8[]; they must be"),
        (["sr", "--probe={run}/empty.npz"], "they must be uint8 [b s s 3]"),
        (["sr"], "the following arguments are required: --probe"),
        (
            ["sr", "--probe={run}/sr_probe.npz", "--out={run}/index/index.json/x"],
            "index.json/x (File exists); choose another --out",
        ),
        (["folder", "--run={run}/base"], "base is no run of train_folder.sh"),
        (["folder", "--run={run}/damaged"], "damaged/index is damaged"),
        (["folder", "--run={run}", "--minutes=-1"], "--minutes: invalid amount"),
        (["prompts", "--source=index:{run}/index", "--num=0", "--out=x"], "--num is 0"),
        (["prompts", "--source=nothing", "--out=x"], "the data source is 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence(folder_run, monkeypatch, capfd, flags, message):
    zero = np.zeros((), np.uint8)
    np.savez(folder_run / "flat.npz", truth=zero, low_res=zero, output=zero)
    none = np.zeros((1, 0, 0, 3), np.uint8)
    np.savez(folder_run / "empty.npz", truth=none, low_res=none, output=none)
    (folder_run / "damaged" / "index").mkdir(parents=True)
    (folder_run / "damaged" / "index" / "index.json").write_text("{}")
    before = sorted(folder_run.rglob("*"))
    given = [flag.format(run=folder_run) for flag in flags]
    status, _, errors = run(monkeypatch, capfd, evaluate, *given)
    assert status == 2
    assert message.format(run=folder_run) in errors[-1]
    assert not any("Traceback" in line for line in errors)
    assert sorted(folder_run.rglob("*")) == before
