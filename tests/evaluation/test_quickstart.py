"""The report says of known pictures what is known of them, and the same each time."""

import json

import numpy as np
import pytest

from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation import prompt_score
from imagen_jax.evaluation.prompt_score import Score, shuffled_accuracies
from imagen_jax.evaluation.quickstart import (
    TARGETS,
    check_targets,
    format_table,
    make_report,
    training_curve,
)
from imagen_jax.evaluation.reference import make_reference

from .conftest import write_manifest, write_sample

KEYS = {
    "minutes",
    "cpu_seconds",
    "n",
    "ground_accuracy",
    "object_accuracy",
    "object_accuracy_64",
    "ground_accuracy_64",
    "object_accuracy_shuffled",
    "control_object_accuracy",
    "sr_gain_db",
    "sr_consistency_db",
    "sr_low_res_swap_db",
    "intervals",
    "per_concept",
    "training_curve",
    "verdict",
    "targets",
}


@pytest.fixture(scope="module", autouse=True)
def few_controls():
    """One control picture a pair; the command's test scores all 15."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_score, "PICTURES_PER_PAIR", 1)
        yield


@pytest.fixture(scope="module")
def report(samples_dir, run_dir) -> dict:
    return make_report(samples_dir, run_dir, minutes=16.0, cpu_seconds=1700.0)


def test_report_has_exactly_its_keys_and_is_json(report):
    assert report.keys() == KEYS
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_accuracies_of_known_pictures(report):
    """12 of 16 concepts are drawn as asked; pairs of the training set do not count."""
    assert report["n"] == 32
    assert (report["object_accuracy"], report["ground_accuracy"]) == (12 / 16, 1.0)
    assert report["object_accuracy_64"] == round(11 / 16, 4)
    assert report["ground_accuracy_64"] == round(15 / 16, 4)
    assert report["control_object_accuracy"] >= 0.99


def test_shuffled_accuracy(report):
    """8 places further on lies what 4 concepts were drawn as: 4/16 there, else 0."""
    assert report["object_accuracy_shuffled"] == pytest.approx(0.25 / 15, abs=1e-4)
    ends = report["intervals"]["object_accuracy_shuffled"]
    assert ends == {"low": 0.0, "high": 0.25}


def test_intervals_hold_their_figures(report):
    assert report["intervals"].keys() == KEYS & {
        key for key in KEYS if "accuracy" in key or key.startswith("sr_")
    }
    for name, ends in report["intervals"].items():
        assert ends["low"] <= report[name] <= ends["high"]
    assert report["intervals"]["object_accuracy"]["low"] > 0.5


def test_super_resolution_figures(report):
    """The probe halves the error of a nearest-neighbour enlargement: +6 dB on it."""
    assert report["sr_gain_db"] > 1
    assert report["sr_consistency_db"] > 40
    assert report["sr_low_res_swap_db"] > 20


def test_per_concept(report):
    held_out = [pair for pair in openmoji.pairs("default") if pair.held_out]
    assert list(report["per_concept"]) == [pair.concept for pair in held_out]
    wrong = report["per_concept"][held_out[0].concept]
    assert wrong == {
        "n": 2,
        "ground_accuracy": 1.0,
        "object_accuracy": 0.0,
        "object_accuracy_64": 0.0,
        "found_most": held_out[8].concept,
    }
    assert report["per_concept"][held_out[8].concept]["object_accuracy"] == 1.0


def test_targets_and_verdict(report):
    met = {name: check["met"] for name, check in report["targets"].items()}
    assert met == dict.fromkeys([*TARGETS, "time"], True)  # time: by CPU-seconds
    assert "8 of 8 targets are met." in report["verdict"]
    assert "There is no reference" in report["verdict"]
    assert "The targets are for 240 pictures; 32 were scored" in report["verdict"]


@pytest.mark.parametrize(
    ("figure", "value", "met"),
    [
        ("object_accuracy", 0.59, False),
        ("object_accuracy", 0.60, True),
        ("object_accuracy_shuffled", 0.16, False),
        ("sr_gain_db", None, None),
    ],
)
def test_each_target_follows_its_figure(report, figure, value, met):
    checks = check_targets(report | {figure: value})
    assert checks[figure]["met"] is met


@pytest.mark.parametrize(
    ("minutes", "cpu_seconds", "met"),
    [(14, 2000, True), (20, 1700, True), (20, 2000, False), (None, None, None)],
)
def test_time_is_met_by_either_clock(report, minutes, cpu_seconds, met):
    times = {"minutes": minutes, "cpu_seconds": cpu_seconds}
    assert check_targets(report | times)["time"]["met"] is met


def test_the_same_folder_gives_the_same_report(report, samples_dir, run_dir):
    again = make_report(samples_dir, run_dir, minutes=16.0, cpu_seconds=1700.0)
    assert json.dumps(again) == json.dumps(report)


def test_order_of_the_manifest_does_not_matter(report, samples_dir, tmp_path):
    text = (samples_dir / "manifest.jsonl").read_text("utf-8")
    for file in samples_dir.glob("*.png"):
        (tmp_path / file.name).symlink_to(file)
    reversed_lines = "\n".join(reversed(text.splitlines()))
    (tmp_path / "manifest.jsonl").write_text(reversed_lines, "utf-8")
    again = make_report(tmp_path)
    for key in KEYS - {
        "minutes",
        "cpu_seconds",
        "training_curve",
        "verdict",
        "targets",
    }:
        if not key.startswith("sr_") and key != "intervals":
            assert again[key] == report[key]


def test_without_a_run_the_report_says_what_is_missing(tmp_path):
    """One picture of one stage: whatever cannot be measured is None, and named."""
    pair = next(pair for pair in openmoji.pairs("default") if pair.held_out)
    entries = write_sample(tmp_path, pair, pair, 0)
    write_manifest(tmp_path, entries[:1])
    report = make_report(tmp_path)
    assert report["n"] == 0
    assert report["object_accuracy_64"] == 1.0
    for name in ("object_accuracy", "object_accuracy_shuffled", "sr_gain_db"):
        assert report[name] is None
        assert report["targets"][name]["met"] is None
        assert name in report["verdict"]
    assert report["training_curve"] is None
    assert "No run was given" in report["verdict"]
    assert format_table(report, None).endswith(report["verdict"])
    (tmp_path / "run").mkdir()
    verdict = make_report(tmp_path, tmp_path / "run")["verdict"]
    assert "no sr_probe.npz" in verdict
    assert "no steps in base/metrics.jsonl" in verdict


def test_shuffling_is_a_derangement():
    """Right answers are never right for another concept's prompt; wrong ones may be."""
    wanted = np.array([3, 3, 5, 9])
    right = np.ones(4, bool)
    assert shuffled_accuracies(Score(wanted, wanted, right)).tolist() == [0.0, 0.0]
    next_one = np.array([5, 5, 9, 3])
    assert shuffled_accuracies(Score(wanted, next_one, right)).tolist() == [1.0, 0.0]
    assert not len(shuffled_accuracies(Score(wanted[:2], wanted[:2], right[:2])))


def test_curve_of_the_run(report):
    """Steps 10 to 200 with loss 1 / step; previews every 50 steps."""
    curve = report["training_curve"]
    assert [point["step"] for point in curve] == list(range(20, 201, 20))
    assert curve[0] == {
        "step": 20,
        "loss": pytest.approx((1 / 10 + 1 / 20) / 2),
        "object_accuracy": None,
        "ground_accuracy": None,
    }
    assert curve[-1]["loss"] == pytest.approx((1 / 190 + 1 / 200) / 2, abs=1e-6)
    assert curve[3]["object_accuracy"] == 50 / 400  # step 80: the preview of step 50
    assert curve[-1]["object_accuracy"] == 0.5
    assert curve[-1]["ground_accuracy"] == 1.0


def test_curve_of_odd_metrics():
    """Nothing logged, a loss that is no number, fewer steps than points."""
    assert training_curve({}, 10) is None
    assert training_curve({0: {"loss": 1.0}}, 10) is None
    curve = training_curve({1: {"loss": float("nan")}, 4: {"loss": None}}, 4)
    assert [point["loss"] for point in curve] == [None] * 4


def test_a_torn_line_of_metrics_is_left_out_and_counted(samples_dir, run_dir, tmp_path):
    """A resumed run repeats steps after the torn line; the later value counts."""
    (tmp_path / "base").mkdir()
    lines = ['{"step": 1, "loss": 9.0}', '{"step": 2, "lo', '{"step": 1, "loss": 3.0}']
    (tmp_path / "base" / "metrics.jsonl").write_text("\n".join(lines), "utf-8")
    report = make_report(samples_dir, tmp_path)
    assert report["training_curve"][-1]["loss"] == 3.0
    assert "1 unreadable lines of metrics.jsonl were left out" in report["verdict"]


def test_table_shows_figures_targets_and_bands(report):
    table = format_table(report, make_reference([report, report]))
    row = next(r for r in table.splitlines() if r.startswith("object_accuracy "))
    assert row.split()[1] == "0.750"
    assert ">= 0.6" in row
    assert "inside" in row
    assert table.endswith(report["verdict"])
    assert max(len(line) for line in table.splitlines()[:-1]) <= 100
