"""Runs Python with these arguments, and stamps each line it prints with time and host.

    python launch/stamp.py [--status=FILE] -m imagen_jax.train --config=...

A line becomes `2026-01-31T12:00:00.000000Z HOST TEXT`, so that launch/merge_logs.sh can
merge what many hosts wrote. SIGTERM is passed on and waited for; it ends with status
143 even where the job saved a checkpoint and ended well, since the job is not finished.
FILE gets the exit status.
"""

import datetime
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

STOPPED = 128 + signal.SIGTERM


def main() -> int:
    """Returns the job's exit status, 128 + N if signal N ended it."""
    arguments = sys.argv[1:]
    status_file = None
    if arguments and arguments[0].startswith("--status="):
        status_file = Path(arguments.pop(0).removeprefix("--status="))
    host = socket.gethostname()
    if "SLURM_PROCID" in os.environ:  # several processes a host
        host += ":" + os.environ["SLURM_PROCID"]
    signals = []
    job = subprocess.Popen(
        [sys.executable, "-u", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )

    def pass_on(signum: int, frame: object) -> None:
        signals.append(signum)
        job.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    assert job.stdout is not None  # it is a pipe
    for line in job.stdout:  # a progress bar's \r ends a line too
        now = datetime.datetime.now(datetime.UTC)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        print(f"{stamp} {host} {line.rstrip()}", flush=True)
    status = job.wait()
    if status < 0:
        status = 128 - status
    if signals and status == 0:
        status = STOPPED
    if status_file is not None:
        status_file.write_text(f"{status}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
