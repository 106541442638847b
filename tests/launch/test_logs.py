"""stamp.py and merge_logs.sh: each line has a time and a host; all in one order."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.fake_tools import LAUNCH

STAMPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ (.*)")


def stamp(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, LAUNCH / "stamp.py", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("code", "status", "lines"),
    [
        ("print('a\\nb')", 0, ["a", "b"]),
        ("import sys; sys.stderr.write('1%\\r2%\\r')", 0, ["1%", "2%"]),
        ("import sys; print('x', end=''); sys.exit(3)", 3, ["x"]),
        ("import os; os.kill(os.getpid(), 9)", 137, []),
    ],
)
def test_stamp(tmp_path, code, status, lines):
    job = stamp(f"--status={tmp_path}/status", "-c", code)
    written, _ = job.communicate(timeout=60)
    assert job.returncode == status
    assert (tmp_path / "status").read_text() == f"{status}\n"
    matches = [STAMPED.fullmatch(line) for line in written.splitlines()]
    assert [match and match[1] for match in matches] == lines


def test_stamp_names_the_process_under_slurm():
    job = stamp("-c", "print(1)", env={**os.environ, "SLURM_PROCID": "7"})
    assert job.communicate(timeout=60)[0].split()[1].endswith(":7")


def test_stamp_passes_sigterm_on_and_says_that_it_was_stopped():
    """Even a job that ends well is not finished then."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\n"
        "print('ready')\n"
        "time.sleep(60)"
    )
    job = stamp("-c", code)
    assert job.stdout is not None
    assert "ready" in job.stdout.readline()
    job.send_signal(signal.SIGTERM)
    written, _ = job.communicate(timeout=60)
    assert "saved" in written
    assert job.returncode == 143


def test_merge_orders_by_time(tmp_path: Path):
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    (hosts / "0.log").write_text(
        "Warning of ssh\n"
        "2026-01-01T00:00:01.000000Z w-0 one\n"
        "not stamped\n"
        "2026-01-01T00:00:03.000000Z w-0 three\n"
    )
    (hosts / "1.log").write_text("2026-01-01T00:00:02.000000Z w-1 two\n")
    later = tmp_path / "later file.log"
    later.write_text("2026-01-01T00:00:02.500000Z w-2  spaces  stay\n")
    done = subprocess.run(
        [LAUNCH / "merge_logs.sh", hosts, later],
        capture_output=True,
        text=True,
        check=True,
    )
    texts = [line.split(" ", 2)[2] for line in done.stdout.splitlines()]
    assert texts == [
        *["Warning of ssh", "one", "not stamped", "two", " spaces  stay", "three"]
    ]
