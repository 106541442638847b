import jax
import jax.numpy as jnp
import pytest

from imagen_jax.errors import UserError
from imagen_jax.training.profile import Profiler, parse_window


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, range(0)),
        ("1:2", range(1, 2)),
        ("10:13", range(10, 13)),
        ("50:90", range(50, 90)),
    ],
)
def test_windows(text, expected):
    assert parse_window(text, num_steps=50) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", ":", "3:", ":3", "0:3", "3:3", "5:3", "-1:3", "1:2:3", "1.0:2"),
        *("a:b", "1 :2", "1:2\n", "1:" + "9" * 13, "\u0661:\u0662"),
    ],
)
def test_bad_windows_are_refused(text):
    with pytest.raises(UserError) as error:
        parse_window(text, num_steps=50)
    assert str(error.value) == (
        f"--profile is {text!r}; give START:STOP, with 1 <= START < STOP, to trace the "
        "steps START to STOP - 1"
    )


def test_a_window_after_the_run_is_refused():
    with pytest.raises(UserError) as error:
        parse_window("51:60", num_steps=50)
    assert str(error.value) == (
        "--profile is '51:60' and train.num_steps 50; START must be a step of the run"
    )


def run(folder, window, first, last):
    """Returns the steps that are marked in the trace."""
    with Profiler(window, folder) as profiler:
        state = jnp.zeros(())
        for step in range(first, last + 1):
            profiler.before_step(step, state)
            with jax.profiler.TraceAnnotation(f"mark-{step}."):
                state = state + 1
    files = list(folder.rglob("*.xplane.pb"))
    assert len(files) <= 1
    trace = files[0].read_bytes() if files else b""
    return [s for s in range(first, last + 1) if b"mark-%d." % s in trace]


def test_the_steps_of_the_window_are_traced(tmp_path):
    assert run(tmp_path / "profile", range(3, 5), 1, 6) == [3, 4]


@pytest.mark.parametrize(
    ("window", "first", "expected"),
    [
        (range(0), 1, []),
        (range(5, 100), 1, [5, 6]),  # the run ends before the window does
        (range(2, 6), 4, [4, 5]),  # it resumes inside the window
        (range(2, 4), 4, []),  # and after it
    ],
)
def test_what_a_run_takes_of_the_window_is_traced(tmp_path, window, first, expected):
    assert run(tmp_path, window, first, 6) == expected


def test_a_run_that_fails_inside_the_window_writes_its_trace(tmp_path):
    def fail():
        with Profiler(range(1, 9), tmp_path) as profiler:
            profiler.before_step(1, ())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.rglob("*.xplane.pb"))
    with Profiler(range(1, 2), tmp_path) as profiler:  # no trace was left running
        profiler.before_step(1, ())


def test_other_processes_trace_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert run(tmp_path, range(1, 9), 1, 3) == []


def test_steps_in_flight_are_waited_for(tmp_path, monkeypatch):
    """Red if a trace begins with, or loses, work of the device."""
    events = []
    for name in ("start_trace", "stop_trace"):
        monkeypatch.setattr(
            jax.profiler, name, lambda *a, name=name, **k: events.append(name)
        )
    monkeypatch.setattr(jax, "block_until_ready", events.append)
    with Profiler(range(2, 4), tmp_path) as profiler:
        for step in range(1, 6):
            profiler.before_step(step, f"state before {step}")
    assert events == [
        *("state before 2", "start_trace"),
        *("state before 4", "stop_trace"),
    ]
