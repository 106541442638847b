"""Flags of a run of several hosts that the train command must refuse."""

import jax
import pytest

from imagen_jax import train
from tests.commands.command import run
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator=h:1"], "needs --num_processes and --process_id too"),
        (
            ["--coordinator=h:1", "--num_processes=2", "--process_id=2"],
            "processes are numbered from 0 to --num_processes - 1",
        ),
        (
            ["--coordinator=h", "--num_processes=2", "--process_id=0"],
            "--coordinator is 'h'; give HOST:PORT of process 0, or auto",
        ),
        (["--num_processes=2"], "--coordinator is not given"),
        (["--coordinator=auto", "--process_id=1"], "--coordinator is auto"),
        (["--coordinator=auto"], "found no TPU pod, Slurm or Open MPI job here"),
        (["--config.mesh.num_slices=0"], "mesh.num_slices is 0; it must be greater"),
        (["--config.mesh.num_slices=2"], "the devices are in 1 slice(s)"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, flags, message):
    def initialize(*arguments):
        assert arguments == ()  # nothing else may get as far as JAX
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    config = f"--config={ROOT}/configs/quickstart_base.py"
    status, _, err = run(
        monkeypatch, capfd, train, config, f"--workdir={tmp_path}/run", *flags
    )
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (tmp_path / "run").exists()
