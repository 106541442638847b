"""Joining, failing and stopping together; with real processes: test_multihost.py."""

import argparse
import os
import signal

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from imagen_jax.errors import UserError
from imagen_jax.parallel.distributed import (
    StopNotice,
    add_flags,
    join,
    raise_together,
    same_on_all,
)


@pytest.fixture
def initialised(monkeypatch):
    """Records the arguments of jax.distributed.initialize instead of calling it."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: calls.append(a))
    return calls


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["--coordinator=auto"], [()]),
        (
            ["--coordinator=10.0.0.1:99", "--num_processes=3", "--process_id=2"],
            [("10.0.0.1:99", 3, 2)],
        ),
        (
            ["--coordinator=[::1]:99", "--num_processes=1", "--process_id=0"],
            [("[::1]:99", 1, 0)],
        ),
    ],
)
def test_flags_reach_jax(initialised, arguments, expected):
    parser = argparse.ArgumentParser()
    add_flags(parser)
    flags = parser.parse_args(arguments)
    join(flags.coordinator, flags.num_processes, flags.process_id)
    assert initialised == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a:1", None, 0), "needs --num_processes and --process_id too"),
        (("a:1", 2, None), "needs --num_processes and --process_id too"),
        (("a:1", 2, 2), "--process_id is 2 and --num_processes 2; processes are numb"),
        (("a:1", 2, -1), "--process_id is -1 and --num_processes 2"),
        (("a:1", 0, 0), "--num_processes 0"),
        (("a", 2, 0), "--coordinator is 'a'; give HOST:PORT"),
        ((":1", 2, 0), "--coordinator is ':1'; give HOST:PORT"),
        (("a:", 2, 0), "--coordinator is 'a:'; give HOST:PORT"),
        (("a:b", 2, 0), "--coordinator is 'a:b'; give HOST:PORT"),
        (("a:65536", 2, 0), "--coordinator is 'a:65536'; give HOST:PORT"),
        (("auto", 2, None), "go with --coordinator=HOST:PORT; --coordinator is auto"),
        ((None, 2, 0), "--coordinator is not given"),
        ((None, None, 0), "--coordinator is not given"),
    ],
)
def test_contradicting_flags_are_refused(initialised, arguments, text):
    with pytest.raises(UserError) as error:
        join(*arguments)
    assert text in str(error.value)
    assert initialised == []


def test_auto_where_there_is_no_cluster_is_refused(monkeypatch):
    def initialize():
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match="found no TPU pod, Slurm or Open MPI job here"):
        join("auto", None, None)


def fail(text):
    raise UserError(text)


def test_alone_a_fault_is_raised_as_it_is():
    raise_together(lambda: None)
    with pytest.raises(UserError, match=r"^no disk$"):
        raise_together(lambda: fail("no disk"))
    assert same_on_all(2**31 - 1) == 2**31 - 1


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (["", "", ""], None),
        (["", "b", "c"], "process 1: b"),
        (["", "", "größer"], "process 2: größer"),
        (["", "", "x" * 2000], "process 2: " + "x" * 1000),
    ],
)
def test_a_fault_of_one_process_is_raised_on_all(monkeypatch, faults, expected):
    """This process is each of the three in turn; the others' rows are made likewise."""

    def rows_of_all(row):
        rows.append(row)
        return (
            np.stack(rows) if len(rows) == len(faults) else np.zeros((1, 1), np.uint8)
        )

    rows = []
    monkeypatch.setattr(jax, "process_count", lambda: len(faults))
    monkeypatch.setattr(multihost_utils, "process_allgather", rows_of_all)
    *others, last = [lambda f=fault: f and fail(f) for fault in faults]
    for check in others:
        raise_together(check)
    if expected is None:
        raise_together(last)
        return
    with pytest.raises(UserError) as error:
        raise_together(last)
    assert str(error.value) == expected


def test_alone_a_signal_is_noticed_and_the_handler_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopNotice() as notice:
        assert not notice.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.reached(2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_joined_processes_ask_the_service_and_leave_its_handler_alone(monkeypatch):
    """Red with a handler of Python's: it would replace that of JAX's service."""
    before = signal.getsignal(signal.SIGTERM)
    asked = []
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        multihost_utils,
        "reached_preemption_sync_point",
        lambda step: asked.append(step) or step == 3,
    )
    with StopNotice() as notice:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [notice.reached(step) for step in (1, 2, 3)] == [False, False, True]
    assert asked == [1, 2, 3]
