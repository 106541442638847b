"""All scripts of launch/: bash parses them, shellcheck is content, flags checked."""

import shutil
import subprocess

import pytest

from tests.launch.fake_tools import LAUNCH, assert_refused

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("gke/*.sh")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_parses_it(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.slow
def test_shellcheck_is_content():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "-x", "-P", LAUNCH.parent, *SCRIPTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


VM = ("--name=base", "--zone=z")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("tpu_vm.sh", [], "'' is no action; give create, setup, run, logs, status"),
        ("tpu_vm.sh", ["creat"], "'creat' is no action; give create"),
        ("tpu_vm.sh", ["create"], "--name is not given; give --name=my-run"),
        ("tpu_vm.sh", ["create", "--name=a"], "--zone is not given; give --zone=us-"),
        ("tpu_vm.sh", ["create", *VM], "--type is not given; give --type=v5litepod-16"),
        ("tpu_vm.sh", ["create", *VM, "--type=v9-1"], "--type=v9-1 is of no known gen"),
        ("tpu_vm.sh", ["create", "--name=A_b", "--zone=z"], "--name=A_b is no name"),
        (
            "tpu_vm.sh",
            ["create", *VM, "--zoen=z"],
            "unknown flag --zoen=z; known here: ",
        ),
        ("tpu_vm.sh", ["create", "--name=", "--zone=z"], "--name has no value; give"),
        ("tpu_vm.sh", ["status", *VM, "--spot"], "unknown flag --spot; known here: "),
        ("tpu_vm.sh", ["delete", *VM, "--", "x"], "delete takes no command after --"),
        ("tpu_vm.sh", ["setup", *VM, "--secrets=no"], "--secrets=no is no file; give"),
        ("tpu_vm.sh", ["logs", *VM, "--lines=0"], "--lines=0 is no whole number of at"),
        ("tpu_vm.sh", ["run", *VM], "no command is given; put it last"),
        ("tpu_vm.sh", ["run", *VM, "--", "trian"], "trian is no command of imagen_jax"),
        (
            "tpu_vm.sh",
            ["run", *VM, "--", "train", "--config=c.py"],
            "is not in this rep",
        ),
        ("tpu_vm.sh", ["run", *VM, "--", "train", "--workdir=/d"], "would go with the"),
        ("tpu_vm.sh", ["run", *VM, "--", "train", "--a=\nb"], "has a line break; give"),
        ("tpu_queued.sh", ["watch"], "'watch' is no action; give train, status or del"),
        (
            "tpu_queued.sh",
            ["train", *VM, "--type=v4-8", "--poll=x", "--", "train"],
            "--poll=x is no whole number of at least 0; give one such as --poll=60",
        ),
        (
            "tpu_queued.sh",
            ["train", *VM, "--type=v4-8", "--", "embed", "--store=here"],
            "--store=here would go with the machine; give gs://BUCKET/DIR",
        ),
        ("slurm.sh", ["start"], "'start' is no action; give setup, submit, logs"),
        (
            "slurm.sh",
            ["submit", "--name=a", "--", "train"],
            "--time is not given; give",
        ),
        ("slurm.sh", ["submit", "--name=a", "--gpus=0"], "--gpus=0 is no whole number"),
        ("slurm.sh", ["logs", "--name=a"], "there are no logs of a here; see"),
        (
            "gke/gke.sh",
            ["submit", "--name=a"],
            "--image is not given; give --image=us-",
        ),
        ("gke/gke.sh", ["submit", "--name=a", "--image=i"], "--tpu is not given; give"),
        (
            "gke/gke.sh",
            ["submit", "--name=a", "--image=i", "--tpu=v5e"],
            "--tpu=v5e is no slice; give GENERATION:TOPOLOGY, such as v5e:16x16",
        ),
        (
            "gke/gke.sh",
            ["submit", "--name=a", "--image=i", "--tpu=v9:2x2"],
            "--tpu=v9:2x2 is of no known generation; give v4, v5e, v5p or v6e",
        ),
        (
            "gke/gke.sh",
            ["submit", "--name=a", "--image=i", "--tpu=v5e:3x3"],
            "has 9 chips, which --chips_per_host=4 does not divide; give another",
        ),
        (
            "gke/gke.sh",
            ["submit", "--name=a", "--image=i&", "--tpu=v5e:4x4", "--", "train"],
            "--image=i& has a character that no such name has; give it without",
        ),
        ("merge_logs.sh", [], "no log is given; give files or folders of logs"),
        ("merge_logs.sh", ["none"], "none does not exist; give files or folders"),
    ],
)
def test_bad_arguments_are_one_sentence(tools, script, arguments, message):
    """And no tool was called."""
    assert_refused(tools.run(script, *arguments), message)
    assert tools.calls == []
