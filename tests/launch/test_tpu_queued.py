"""`./launch/tpu_queued.sh`: preempted, refused, broken; it ends with nothing left."""

import shlex

import pytest

WHERE = ["--zone=us-central1-a"]
NAMED = ["--name=base", *WHERE]
QUEUE = ["gcloud", "compute", "tpus", "queued-resources"]
LIST = [*QUEUE, "list", *WHERE, "--format=value(name,state.state)"]
CREATE = [
    *[*QUEUE, "create", "base", *WHERE, "--node-id=base"],
    *["--accelerator-type=v5litepod-256", "--runtime-version=v2-alpha-tpuv5-lite"],
    "--spot",
]
DELETE = [*QUEUE, "delete", "base", *WHERE, "--force", "--quiet"]
HOW = "./launch/tpu_queued.sh delete --name=base --zone=us-central1-a"
FLAGS = [*NAMED, "--type=v5litepod-256", "--spot", "--poll=0"]
JOB = ["--", "train", "--config=configs/base.py", "--workdir=gs://b/d"]
FAILS = {"status": 1, "stderr": "ERROR: (gcloud) no quota\n"}
WORDS = ["list", "create", "delete", "archive", "scp", "setup", "start", "state", "log"]


def listed(*states):
    """Answers to `list`: a state, or "" for none."""
    return [{"stdout": f"x/base\t{state}\n" if state else ""} for state in states]


def states(*words):
    """Answers to `worker.sh state` of two hosts that agree."""
    return [{"stdout": f"state: {word}\n" * 2} for word in words]


def train(tools, *flags):
    return tools.run("tpu_queued.sh", "train", *FLAGS, *flags, *JOB)


def command_of(call):
    """Returns what a call runs over ssh, "" for other calls."""
    return next((w for w in call if w.startswith("--command=")), "")


def told(tools):
    """What was called, a word each; `list` and git's status are left out."""
    words = []
    for call in tools.calls:
        command = command_of(call)
        found = [w for w in WORDS if w in call or f"worker.sh {w}" in command]
        words += [word for word in found if word != "list"]
    return words


pytestmark = pytest.mark.slow
UP = ["archive", "scp", "setup", "start"]


def test_preempted_it_asks_again_and_starts_the_same_command(tools):
    tools.answer(
        "queued-resources list",
        *listed("", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE"),
        *listed("SUSPENDING", "SUSPENDED", "", "ACTIVE", "ACTIVE"),
    )
    tools.answer("worker.sh state", *states("none", "running", "none", "exit 0"))
    tools.answer("worker.sh log", {"stdout": ""})
    done = train(tools)
    assert done.returncode == 0, done.stderr
    assert told(tools) == [
        *["create", "state", *UP, "state", "delete"],
        *["create", "state", *UP, "state", "log", "delete"],
    ]
    starts = [call for call in tools.calls if "worker.sh start" in command_of(call)]
    assert starts[0] == starts[1]
    assert command_of(starts[0]).endswith("--workdir=gs://b/d --coordinator=auto")
    assert [call for call in tools.calls if "create" in call] == [CREATE, CREATE]
    assert tools.calls[0] == LIST
    assert tools.calls[-1] == DELETE
    assert "the command has finished; the queued resource is deleted" in done.stdout


def test_started_again_it_only_watches(tools):
    """The loop itself was ended; the job went on."""
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states("running", "running", "exit 0"))
    assert train(tools).returncode == 0
    assert told(tools) == ["state", "state", "state", "log", "delete"]


@pytest.mark.parametrize(
    ("word", "flags", "status", "message", "starts"),
    [
        ("exit 2", [], 2, "the command refuses its flags; see the last lines", 0),
        ("exit 1", ["--max_failures=3"], 1, "given up after 3 failures", 2),
    ],
)
def test_a_command_that_fails_ends_with_nothing_left(
    tools, word, flags, status, message, starts
):
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states(word))
    done = train(tools, *flags)
    assert done.returncode == status
    assert f"{message}" in done.stdout
    assert told(tools).count("start") == starts
    assert told(tools)[-2:] == ["log", "delete"]


def test_stopped_on_a_machine_that_stays_it_starts_again(tools):
    """10 looks, in which a preemption would have shown, and no failure is counted."""
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states(*["exit 143"] * 10, "exit 0"))
    done = train(tools, "--max_failures=1")
    assert done.returncode == 0
    assert told(tools) == [*["state"] * 10, *UP, "state", "log", "delete"]


def test_hosts_that_do_not_answer_are_replaced(tools):
    tools.answer("queued-resources list", *listed(*["ACTIVE"] * 10, "", "ACTIVE"))
    tools.answer("worker.sh state", *[FAILS] * 10, *states("exit 0"))
    done = train(tools)
    assert done.returncode == 0
    assert told(tools) == [
        *["state"] * 10,
        "delete",
        "create",
        "state",
        "log",
        "delete",
    ]
    assert "not all of its hosts answer ssh; it is asked for anew (failure 1" in (
        done.stdout
    )


@pytest.mark.parametrize(
    "point", ["archive", "scp", "worker.sh setup", "worker.sh sta"]
)
def test_failing_to_set_up_is_tried_again_then_deleted(tools, point):
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states("none"))
    tools.answer(point, FAILS)
    done = train(tools, "--max_failures=2")
    assert done.returncode == 1
    assert "setting up failed (failure 2 of at most 2)" in done.stdout
    assert tools.calls[-1] == DELETE


def test_failing_requests_end(tools):
    tools.answer("queued-resources list", *listed(""))
    tools.answer(" create ", FAILS)
    done = train(tools, "--max_failures=2")
    assert done.returncode == 1
    assert told(tools).count("create") == 2
    assert "There is no queued-resources base in us-central1-a" in done.stderr


def test_failed_resources_are_deleted_and_asked_for_again(tools):
    tools.answer("queued-resources list", *listed("FAILED", "", "FAILED"))
    done = train(tools, "--max_failures=2")
    assert done.returncode == 1
    assert told(tools) == ["delete", "create", "log", "delete"]


def test_failing_last_delete_says_how(tools):
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states("exit 0"))
    tools.answer(" delete ", FAILS)
    done = train(tools)
    assert done.returncode == 1
    left = f"base exists (state ACTIVE) and costs until it is deleted with: {HOW}"
    assert left in done.stderr
    assert "the command has finished, but base was not deleted" in done.stderr


def test_without_gcloud_it_says_what_may_exist(tools):
    tools.answer("queued-resources list", FAILS)
    done = train(tools)
    assert done.returncode == 1
    assert (
        f"base may exist, and cost: gcloud could not be asked. Look with: {QUEUE[0]}"
        in (done.stderr)
    )
    assert f"delete it with: {HOW}" in done.stderr
    assert told(tools) == []


@pytest.mark.parametrize("point", [" create ", "worker.sh setup", "worker.sh start"])
def test_ended_by_a_signal_it_says_what_exists(tools, point):
    tools.answer("queued-resources list", *listed(""), once=True)
    tools.answer(point, {"terminates": True}, once=True)
    tools.answer("queued-resources list", *listed("ACTIVE"))
    tools.answer("worker.sh state", *states("none"))
    done = train(tools)
    assert done.returncode == 130
    assert f"base exists (state ACTIVE) and costs until it is deleted with: {HOW}" in (
        done.stderr
    )


def test_status_and_delete(tools):
    tools.answer("queued-resources list", *listed("ACTIVE", ""))
    assert tools.run("tpu_queued.sh", "status", *NAMED).stdout == "base: ACTIVE\n"
    none = tools.run("tpu_queued.sh", "status", *NAMED).stdout
    assert none == "base: does not exist in us-central1-a\n"
    assert tools.run("tpu_queued.sh", "delete", *NAMED).returncode == 0
    assert tools.calls == [LIST, LIST, DELETE]


def test_dry_run_prints_what_a_preempted_run_calls(tools):
    dry = train(tools, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert tools.calls == []
    tools.answer("queued-resources list", *listed("", "ACTIVE", "SUSPENDED", "ACTIVE"))
    tools.answer("worker.sh state", *states("none", "exit 0"))
    train(tools)
    planned = [shlex.split(line) for line in dry.stdout.splitlines() if line[0] == "g"]
    called = {tuple(call) for call in tools.calls if "--porcelain" not in call}
    assert {tuple(words) for words in planned} == called
