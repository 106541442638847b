"""The metrics file of a run, what a resumed run makes of it, and wandb beside it."""

import json
import sys
import types

import pytest

from imagen_jax.errors import UserError
from imagen_jax.training.metrics import MetricsWriter


def write(workdir, start_step, lines, wandb_project=""):
    writer = MetricsWriter(workdir, start_step, wandb_project)
    for step, values in lines:
        writer.write(step, values)
    writer.close()


def read(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_line_per_write_with_null_for_what_is_not_finite(tmp_path):
    write(tmp_path, 0, [(1, {"loss": 0.5, "grad_norm": float("inf")}), (1, {"x": 2.0})])
    assert read(tmp_path) == [
        {"step": 1, "loss": 0.5, "grad_norm": None},
        {"step": 1, "x": 2.0},
    ]


def test_lines_of_steps_taken_again_are_dropped(tmp_path):
    write(tmp_path, 0, [(step, {"loss": 1.0}) for step in (1, 2, 3, 4)])
    write(tmp_path, 2, [(3, {"loss": 9.0})])
    assert [(line["step"], line["loss"]) for line in read(tmp_path)] == [
        (1, 1.0),
        (2, 1.0),
        (3, 9.0),
    ]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    write(tmp_path, 0, [(1, {"loss": 1.0})])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    write(tmp_path, 2, [(3, {"loss": 3.0})])
    assert [line["step"] for line in read(tmp_path)] == [1, 3]


def test_lines_are_in_the_file_at_once(tmp_path):
    """A workdir in a bucket is uploaded while the writer goes on."""
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {"loss": 1.0})
    assert [line["step"] for line in read(tmp_path)] == [1]
    writer.close()


def test_only_process_0_writes(tmp_path, monkeypatch, wandb):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    writer = MetricsWriter(tmp_path, 0, "birds")
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())
    assert wandb.runs == []


class FakeRun:
    """Does with steps what wandb does: those before the newest are not taken."""

    def __init__(self, settings):
        self.settings, self.rows, self.finished = settings, [], False

    def log(self, values, step):
        assert not self.finished
        if not self.rows or step >= self.rows[-1][0]:
            self.rows.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """Stands for the package; `runs` lists what was started."""
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**settings):
        module.runs.append(FakeRun(settings))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_the_same_and_a_resumed_run_goes_on_under_its_id(tmp_path, wandb):
    (tmp_path / "config.json").write_text('{"name": "base"}')
    lines = [(1, {"loss": 1.0}), (2, {"loss": float("nan"), "x": 2.0})]
    write(tmp_path, 0, lines[:1], "birds")
    write(tmp_path, 1, lines[1:], "birds")
    first, second = wandb.runs
    assert first.settings == second.settings
    assert first.settings["project"] == "birds"
    assert first.settings["resume"] == "allow"
    assert first.settings["dir"] == str(tmp_path)
    assert first.settings["config"] == {"name": "base"}
    assert len(first.settings["id"]) == 8
    assert first.rows == lines[:1]
    assert str(second.rows) == str(lines[1:])
    assert first.finished
    assert second.finished
    assert [line["step"] for line in read(tmp_path)] == [1, 2]


def test_two_workdirs_are_two_runs_of_wandb(tmp_path, wandb):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 0, [], "birds")
    assert len({run.settings["id"] for run in wandb.runs}) == 2


def test_without_a_project_wandb_is_left_alone(tmp_path, wandb):
    write(tmp_path, 0, [(1, {"loss": 1.0})])
    assert wandb.runs == []
    assert not (tmp_path / "wandb_run.json").exists()


def test_a_project_without_the_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r'pip install "imagen_jax\[log\]"'):
        MetricsWriter(tmp_path, 0, "birds")
    assert not list(tmp_path.iterdir())
