"""`./launch/tpu_vm.sh`: its command lines, and that no machine is forgotten."""

import shlex
import time

import pytest

WHERE = ["--zone=us-central1-a", "--project=p"]
VM = ["--name=base", *WHERE]
TPU = ["gcloud", "compute", "tpus", "tpu-vm"]
PATIENCE = ["ConnectTimeout=60", "ServerAliveInterval=30"]


def ssh(command, *flags):
    patience = [f"--ssh-flag=-o{flag}" for flag in PATIENCE]
    words = [*TPU, "ssh", "base", f"--command={command}", *WHERE, "--worker=all"]
    return [*words, "--quiet", *patience, *flags]


def scp(file, to):
    patience = [f"--scp-flag=-o{flag}" for flag in PATIENCE]
    words = [*TPU, "scp", str(file), f"base:{to}", *WHERE, "--worker=all", "--quiet"]
    return [*words, *patience]


LIST = [*TPU, "list", *WHERE, "--format=value(name,state)"]
DELETE = "./launch/tpu_vm.sh delete --name=base --zone=us-central1-a --project=p"
JOB = ["--", "train", "--config=configs/base.py:3", "--workdir=gs://b/d", "--x='a b'"]
START = (
    "imagen_jax/launch/worker.sh start train --config=configs/base.py:3 "
    "--workdir=gs://b/d '--x='\\''a b'\\''' --coordinator=auto"
)
EXISTS = {"stdout": "other\tREADY\nprojects/p/locations/z/nodes/base\tREADY\n"}
GONE = {"stdout": "other\tREADY\nbase-2\tREADY\n"}
FAILS = {"status": 1, "stderr": "ERROR: (gcloud) no quota\n"}


def set_up_calls(root):
    archive = f"{root}/.cache/launch/base.tgz"
    return [
        [
            *["git", "-C", str(root), "archive", "--format=tar.gz"],
            *[f"--output={archive}", "HEAD"],
        ],
        scp(archive, "imagen_jax.tgz"),
        ssh(
            "mkdir -p imagen_jax && tar -xzf imagen_jax.tgz -C imagen_jax "
            "&& imagen_jax/launch/worker.sh setup tpu,text,text-hf,cloud,parquet"
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("v5litepod-256", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
        ("v4-8", "tpu-ubuntu2204-base"),
    ],
)
def test_create(tools, kind, version):
    done = tools.run("tpu_vm.sh", "create", *VM, f"--type={kind}", "--spot")
    assert done.returncode == 0, done.stderr
    flags = [f"--accelerator-type={kind}", f"--version={version}", "--spot"]
    assert tools.calls == [[*TPU, "create", "base", *WHERE, *flags]]


def test_create_passes_flags_on(tools):
    extra = ["--gcloud_flag=--network=n", "--gcloud_flag=--labels=a=b,c=d"]
    version = ["--type=v4-8", "--version=special"]
    assert tools.run("tpu_vm.sh", "create", *VM, *version, *extra).returncode == 0
    assert tools.calls[0][-3:] == [
        "--version=special",
        "--network=n",
        "--labels=a=b,c=d",
    ]


@pytest.mark.parametrize(
    ("listed", "left"),
    [
        (
            EXISTS,
            f"base exists (state READY) and costs until it is deleted with: {DELETE}",
        ),
        (GONE, "There is no tpu-vm base in us-central1-a; nothing is left behind."),
        (
            FAILS,
            f"base may exist, and cost: gcloud could not be asked. Look with: "
            "gcloud compute tpus tpu-vm list --zone=us-central1-a --project=p "
            f"and delete it with: {DELETE}",
        ),
    ],
)
@pytest.mark.parametrize("action", ["create", "delete"])
def test_failing_create_and_delete_say_what_exists(tools, action, listed, left):
    tools.answer(f" {action} ", FAILS)
    tools.answer(" list ", listed)
    flags = ["--type=v4-8"] if action == "create" else []
    done = tools.run("tpu_vm.sh", action, *VM, *flags)
    assert done.returncode == 1
    assert "no quota" in done.stderr
    assert left in done.stderr
    assert tools.calls[-1] == LIST
    assert done.stderr.splitlines()[-1].startswith(
        f"error: base was not {action}d; see"
    )


def test_signal_during_create_says_what_exists(tools):
    tools.answer(" create ", {"terminates": True})
    tools.answer(" list ", EXISTS)
    done = tools.run("tpu_vm.sh", "create", *VM, "--type=v4-8")
    assert done.returncode == 130
    assert (
        f"base exists (state READY) and costs until it is deleted with: {DELETE}"
        in (done.stderr)
    )


def test_setup_sends_the_last_commit_and_the_secrets(tools):
    secrets = tools.folder / "secrets"
    secrets.write_text("HF_TOKEN=hf_1234\n")
    done = tools.run("tpu_vm.sh", "setup", *VM, f"--secrets={secrets}")
    assert done.returncode == 0, done.stderr
    status, archive, copy, install = [
        ["git", "-C", str(tools.root), "status", "--porcelain"],
        *set_up_calls(tools.root),
    ]
    send = scp(secrets, ".imagen_jax_secrets")
    assert tools.calls == [status, archive, copy, send, install]
    assert "hf_1234" not in str(tools.calls) + done.stdout + done.stderr
    assert "Only the last commit" not in done.stderr


def test_setup_says_that_changes_are_not_sent(tools):
    tools.answer("status --porcelain", {"stdout": " M setup.py\n"})
    done = tools.run("tpu_vm.sh", "setup", *VM)
    assert "Only the last commit is sent; changes since then are not." in done.stderr


@pytest.mark.parametrize("point", ["archive", "scp", "setup tpu"])
def test_failing_setup_says_that_the_machine_costs(tools, point):
    tools.answer(point, FAILS)
    tools.answer(" list ", EXISTS)
    done = tools.run("tpu_vm.sh", "setup", *VM)
    assert done.returncode == 1
    assert f"costs until it is deleted with: {DELETE}" in done.stderr
    assert (
        "base was not set up; see the message above and run setup again" in done.stderr
    )
    assert tools.calls[-1] == LIST
    assert point in " ".join(tools.calls[-2])


def test_run_and_stop(tools):
    assert tools.run("tpu_vm.sh", "run", *VM, "--internal_ip", *JOB).returncode == 0
    assert tools.calls == [ssh(START, "--internal-ip")]
    tools.answer(" ssh ", FAILS)
    tools.answer(" list ", EXISTS)
    for arguments in (["run", *VM, *JOB], ["stop", *VM]):
        done = tools.run("tpu_vm.sh", *arguments)
        assert done.returncode == 1
        assert f"costs until it is deleted with: {DELETE}" in done.stderr
    assert tools.calls[-2] == ssh("imagen_jax/launch/worker.sh stop")


@pytest.mark.parametrize(
    ("states", "word"),
    [
        (["none", "none"], "none"),
        (["running", "running"], "running"),
        (["running", "exit 0"], "running"),
        (["exit 0", "exit 0"], "finished"),
        (["exit 2", "running"], "refused"),
        (["exit 143", "exit 0"], "stopped"),
        (["exit 143", "exit 1"], "broken"),
        (["running", "exit 1"], "broken"),
        (["running", "lost"], "broken"),
        (["running", "none"], "broken"),
    ],
)
def test_status_sums_up_the_hosts(tools, states, word):
    tools.answer(" list ", EXISTS)
    lines = "".join(f"state: {state}\n" for state in states)
    tools.answer("worker.sh state", {"stdout": f"noise\n{lines}"})
    done = tools.run("tpu_vm.sh", "status", *VM)
    assert done.stdout == f"base: READY, job: {word}\n"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"stdout": ""}, "base: does not exist in us-central1-a\n"),
        ({"stdout": "base CREATING\n"}, "base: CREATING\n"),
    ],
)
def test_status_of_a_machine_that_is_not_ready(tools, listed, said):
    tools.answer(" list ", listed)
    assert tools.run("tpu_vm.sh", "status", *VM).stdout == said


def test_status_of_hosts_that_do_not_answer(tools):
    tools.answer(" list ", EXISTS)
    tools.answer(" ssh ", FAILS)
    assert tools.run("tpu_vm.sh", "status", *VM).stdout == "base: READY, job: unknown\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", *VM, "--type=v4-8"],
        ["setup", *VM],
        ["run", *VM, *JOB],
        ["logs", *VM],
        ["logs", *VM, "--follow"],
        ["status", *VM],
        ["stop", *VM],
        ["delete", *VM],
    ],
    ids=lambda words: words[0],
)
def test_dry_run_prints_what_a_run_calls(tools, arguments):
    dry = tools.run("tpu_vm.sh", *arguments[:3], "--dry-run", *arguments[3:])
    assert dry.returncode == 0, dry.stderr
    assert tools.calls == []
    assert not (tools.root / ".cache").exists()
    tools.answer(" list ", EXISTS)
    tools.answer("worker.sh state", {"stdout": "state: running\n"})
    assert tools.run("tpu_vm.sh", *arguments).returncode == 0
    planned = [shlex.split(line) for line in dry.stdout.splitlines()]
    planned = [line for line in planned if line[0] in ("gcloud", "git")]
    assert planned == [line for line in tools.calls if "--porcelain" not in line]
    assert planned


@pytest.mark.slow
def test_two_hosts_for_real(tools):
    """The scripts of the hosts, over a fake ssh: start, state, logs, stop, start."""
    hosts = tools.add_hosts(2)
    tools.answer(" list ", EXISTS)
    for host in hosts:
        (host / ".imagen_jax_secrets").write_text("HF_TOKEN=hf_1234\n")
    assert "job: none" in tools.run("tpu_vm.sh", "status", *VM).stdout
    done = tools.run("tpu_vm.sh", "run", *VM, *JOB)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started on ") == 2
    assert "job: running" in tools.run("tpu_vm.sh", "status", *VM).stdout
    deadline = time.monotonic() + 30
    while True:
        logs = tools.run("tpu_vm.sh", "logs", *VM)
        if logs.stdout.count("secret hf_1234") == 2 or time.monotonic() > deadline:
            break
    assert logs.stdout.count("secret hf_1234") == 2
    lines = logs.stdout.splitlines()
    given = "given --config=configs/base.py:3 --workdir=gs://b/d --x='a b' --coordin"
    assert sum(given in line for line in lines) == 2
    assert len(lines) == 4
    stamps = [line.split()[0] for line in lines]
    assert stamps == sorted(stamps)

    assert tools.run("tpu_vm.sh", "stop", *VM).returncode == 0
    assert "job: stopped" in tools.run("tpu_vm.sh", "status", *VM).stdout
    assert "saved" in tools.run("tpu_vm.sh", "logs", *VM).stdout
    tools.run("tpu_vm.sh", "run", *VM, "--", "train", "--ends=2")
    # Both hosts': the first refusal already is the job's.
    ended = [host / "imagen_jax_job" / "status" for host in hosts]
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in ended):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "job: refused" in tools.run("tpu_vm.sh", "status", *VM).stdout

    # A reboot: the process is gone and left no status.
    for host in hosts:
        (host / "imagen_jax_job" / "status").unlink()
        (host / "imagen_jax_job" / "pid").write_text("1\n")
    assert "job: broken" in tools.run("tpu_vm.sh", "status", *VM).stdout
