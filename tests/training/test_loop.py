import functools
import json
import os
import signal

import jax
import numpy as np
import pytest

from imagen_jax.bundle import load_stage
from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import make_program, train
from tests.tiny import ONE_LEVEL, tiny_batch, tiny_config


class Killed(Exception):
    """Stands for a process that ends between two steps."""


def run(
    workdir, *, stop_before=None, preview_fn=None, action=None, asked=None, **changes
):
    """Trains a tiny stage; before batch `stop_before` it takes `action`, or dies.

    The batches asked for, (start, stop), are appended to `asked`.
    """
    changes["network"] = {**ONE_LEVEL["base"], **changes.get("network", {})}
    config = tiny_config(mesh={"data": 4, "fsdp": 2}, **changes)
    stage = build_stage(config, constrain=constrain_batch)

    def batches(start, stop):
        if asked is not None:
            asked.append((start, stop))
        return drawn(range(start, stop))

    def drawn(numbers):
        for k in numbers:
            if k == stop_before:
                if action is None:
                    raise Killed
                action()
            yield tiny_batch(stage, seed=k)

    mesh, program = shared(config)
    state = train(stage, mesh, batches, workdir, preview_fn=preview_fn, program=program)
    return jax.device_get(state)


@functools.cache
def shared(config):
    """The mesh and program of a config: runs of this module trace and read it once."""
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        return mesh, make_program(build_stage(config, constrain=constrain_batch), mesh)


def assert_equal_bitwise(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that died between the checkpoints at 4, 8 and 12, and what it asked for."""
    workdir, asked = tmp_path_factory.mktemp("interrupted"), []
    for stop_before in (6, 9):
        with pytest.raises(Killed):
            run(workdir, stop_before=stop_before, asked=asked)
    return workdir, run(workdir, asked=asked), asked


def test_interrupted_and_resumed_equals_uninterrupted(interrupted, uninterrupted):
    assert_equal_bitwise(interrupted[1], uninterrupted[1])


def test_metrics_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    interrupted, uninterrupted
):
    losses = []
    for workdir in (interrupted[0], uninterrupted[0]):
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        losses.append([(entry["step"], entry["loss"]) for entry in entries])
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, 13))


def test_batches_are_asked_for_from_the_step_to_resume(interrupted):
    assert interrupted[2] == [(0, 12), (4, 12), (8, 12)]


def test_sigterm_checkpoints_and_the_run_resumes(tmp_path, uninterrupted):
    stopped = run(
        tmp_path, stop_before=5, action=lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert int(stopped.step) == 6
    assert (tmp_path / "checkpoints" / "6").is_dir()
    assert_equal_bitwise(run(tmp_path), uninterrupted[1])


def test_a_finished_run_has_nothing_left_to_do(uninterrupted):
    workdir, state = uninterrupted
    asked = []
    assert_equal_bitwise(run(workdir, stop_before=0, asked=asked), state)
    assert asked == [(12, 12)]


def test_previews_get_the_averaged_parameters_on_their_period(tmp_path):
    seen = {}
    state = run(
        tmp_path,
        preview_fn=lambda step, params: (
            seen.update({step: jax.device_get(params)}) or {"preview/x": 1.0}
        ),
        train={"preview_every": 5},
    )
    assert list(seen) == [5, 10, 12]
    assert_equal_bitwise(seen[12], state.ema_params["0.9"])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(x)["step"] for x in lines if "preview/x" in json.loads(x)]
    assert steps == [5, 10, 12]


def test_load_stage_reads_the_averaged_weights(uninterrupted):
    workdir, state = uninterrupted
    stage, params = load_stage(workdir)
    assert stage.config.name == "base"
    assert_equal_bitwise(params, state.ema_params["0.9"])


def test_the_average_lags_behind_the_parameters(uninterrupted):
    _, state = uninterrupted
    average = state.ema_params["0.9"]
    distances = [
        float(np.abs(a - b).max())
        for a, b in zip(
            jax.tree.leaves(state.params), jax.tree.leaves(average), strict=True
        )
    ]
    assert max(distances) > 1e-4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("network", {"channels": 16}),
        ("diffusion", {"prediction": "v"}),
        ("seed", 7),
    ],
)
def test_a_workdir_of_another_run_is_refused(uninterrupted, field, value):
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_text()
    with pytest.raises(UserError, match=rf"another {field}.*use another --workdir"):
        run(workdir, **{field: value})
    assert (workdir / "config.json").read_text() == before


def test_a_checkpoint_of_another_optimizer_is_refused(uninterrupted):
    workdir, _ = uninterrupted
    before = (workdir / "config.json").read_text()
    with pytest.raises(UserError, match="another model or optimizer"):
        run(workdir, optimizer={"kind": "adafactor"})
    assert (workdir / "config.json").read_text() == before


def test_too_many_non_finite_updates_stop_the_run(tmp_path):
    changes = {
        "optimizer": {"learning_rate": 1e30, "warmup_steps": 1},
        "train": {"max_skipped_in_row": 3},
    }
    with pytest.raises(UserError, match="3 updates in a row"):
        run(tmp_path, **changes)
    # The first update is finite but its size is not: applied, it would end the run.
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["num_skipped"] for line in lines] == [1.0, 2.0, 3.0]


def test_mesh_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="does not make 8 devices"):
        make_mesh(MeshConfig(data=3))
