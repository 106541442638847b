"""`./launch/slurm.sh`: its sbatch lines, chains, and what a failing sbatch leaves."""

import shlex
import sys

import pytest

JOB = ["--", "train", "--config=configs/base.py", "--workdir=/shared/a b"]
SUBMIT = ["submit", "--name=base", "--nodes=2", "--gpus=8", "--time=24:00:00"]


def expected(root, *extra):
    logs = f"{root}/runs/slurm/base"
    step = (
        f"srun --kill-on-bad-exit=0 --output={logs}/%j-%t.log --open-mode=append "
        f"{sys.prefix}/bin/python launch/stamp.py -m imagen_jax.train "
        "--config=configs/base.py '--workdir=/shared/a b' --coordinator=auto"
    )
    return [
        *["sbatch", "--parsable", "--job-name=base", "--nodes=2"],
        *["--ntasks-per-node=8", "--gpus-per-node=8", "--time=24:00:00", "--requeue"],
        *["--signal=TERM@300", "--dependency=singleton", f"--chdir={root}"],
        *["--open-mode=append", f"--output={logs}/%j-batch.log", *extra],
        f"--wrap={step}",
    ]


def test_a_chain_of_jobs(tools):
    tools.answer("sbatch", {"stdout": "71\n"}, {"stdout": "72\n"})
    extra = ["--partition=p", "--account=a", "--mem=0"]
    flags = ["--partition=p", "--account=a", "--sbatch_flag=--mem=0", "--chain=2"]
    done = tools.run("slurm.sh", *SUBMIT, *flags, *JOB)
    assert done.returncode == 0, done.stderr
    assert tools.calls == [expected(tools.root, *extra)] * 2
    assert done.stdout == f"queued as 71 72; logs in {tools.root}/runs/slurm/base\n"


def test_failing_sbatch_says_what_is_queued(tools):
    tools.answer("sbatch", {"stdout": "71\n"}, {"status": 1, "stderr": "no account\n"})
    done = tools.run("slurm.sh", *SUBMIT, "--chain=3", *JOB)
    assert done.returncode == 1
    assert len(tools.calls) == 2
    assert (
        "Queued before that: 71; they go on, and end with: ./launch/slurm.sh delete"
        in (done.stderr)
    )
    last = done.stderr.splitlines()[-1]
    assert last == "error: sbatch did not take job 2 of 3; see its message above"


def test_dry_run(tools):
    done = tools.run("slurm.sh", *SUBMIT, "--chain=2", "--dry-run", *JOB)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert lines == [expected(tools.root)] * 2
    assert tools.calls == []
    assert not (tools.root / "runs").exists()


@pytest.mark.parametrize(
    ("action", "words", "message"),
    [
        ("status", ["squeue", "--name=base", "--me"], "squeue failed; see above"),
        ("delete", ["scancel", "--name=base", "--me"], "named base may still run"),
    ],
)
def test_status_and_delete(tools, action, words, message):
    assert tools.run("slurm.sh", action, "--name=base").returncode == 0
    assert tools.calls == [words]
    tools.answer(words[0], {"status": 1})
    done = tools.run("slurm.sh", action, "--name=base")
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_logs(tools):
    logs = tools.root / "runs" / "slurm" / "base"
    logs.mkdir(parents=True)
    (logs / "71-0.log").write_text("2026-01-01T00:00:02.5Z n:0 second\n")
    (logs / "71-1.log").write_text("2026-01-01T00:00:02.4Z n:1 first\n")
    done = tools.run("slurm.sh", "logs", "--name=base")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        "first",
        "second",
    ]
