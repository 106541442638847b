"""The metrics file of a run, and what a resumed run makes of it."""

import json

from imagen_jax.training.metrics import MetricsWriter


def write(workdir, start_step, lines):
    writer = MetricsWriter(workdir, start_step)
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


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    write(tmp_path, 0, [(1, {"loss": 1.0})])
    assert not list(tmp_path.iterdir())
