"""Runs a command as `python -m` does, in this process."""

import sys

from imagen_jax import host_memory
from imagen_jax.errors import run_command


def run(monkeypatch, capfd, module, *arguments):
    """Returns (exit status, stdout, lines of stderr) of a command's `main`."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    # Nothing may change how the test process manages its memory.
    monkeypatch.setattr(host_memory, "_glibc", lambda: None)
    status = 0
    try:
        run_command(module.main)
    except SystemExit as stop:
        status = stop.code
    out, err = capfd.readouterr()
    return status, out, err.strip().splitlines()
