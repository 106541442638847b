"""The fuzzer finds what it must, and finds nothing in the library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLANTED = ("traceback", "loss", "crash", "hang", "escape", "silence", "fine")


def fuzz(*flags):
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_200_cases_end_well():
    done = fuzz("--n=200", "--seed=0")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(number) for number in re.findall(r"\d+", done.stdout)]
    cases, _, fine, dropped, refused, faults, _ = counts
    assert (cases, faults) == (200, 0)
    assert min(fine, dropped, refused) >= 20  # neither all harmless nor all hopeless


@pytest.mark.slow
def test_every_kind_of_fault_is_found():
    kinds = ",".join(f"planted.{name}" for name in PLANTED)
    done = fuzz(f"--n={len(PLANTED)}", f"--kinds={kinds}", "--hang_sec=5")
    assert done.returncode == 1
    *faults, summary = done.stdout.splitlines()
    expected = [
        "case 0 (planted.traceback): FAULT: KeyError at planted.py:",
        "case 1 (planted.loss): FAULT: lost silently: planted",
        "case 2 (planted.crash): FAULT: the process has ended (-6)",
        "case 3 (planted.hang): FAULT: does not end within 5 s",
        "case 4 (planted.escape): FAULT: wrote ['escaped'] outside of its folder",
        "case 5 (planted.silence): FAULT: refused without a word",
    ]
    assert len(faults) == len(expected)
    assert all(line.startswith(e) for line, e in zip(faults, expected, strict=True))
    assert "7 cases of seed 0: 1 fine, 0 with drops" in summary
    assert "6 faults" in summary


@pytest.mark.slow
def test_a_case_comes_again_alone():
    """The same seed and number, the same fault; now with its traceback."""
    done = fuzz("--only=7", "--kinds=planted.fine,planted.traceback")
    assert done.returncode == 1
    assert 'raise KeyError("planted")' in done.stderr
    assert "1 cases of seed 0: 0 fine" in done.stdout
