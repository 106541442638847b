"""The turns of a worker of `data.py`; standard library only, for peers import it too.

For every line N on stdin the worker makes N batches and prints {"pictures", "wall",
"cpu"}. Loaders keep batches ready while they wait for their turn: these are taken
first and not counted.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any


def serve(batches: Iterator[Any], batch_size: int, num_ready: int) -> None:
    """Serves until stdin ends.

    Args:
      batches: endless.
      batch_size: pictures in each.
      num_ready: batches that the loader keeps ready, at most.
    """
    for _ in range(2 * num_ready):
        next(batches)
    print("READY", flush=True)
    for line in sys.stdin:
        for _ in range(num_ready + 1):
            next(batches)
        wall, cpu = time.perf_counter(), _cpu_sec()
        for _ in range(int(line)):
            next(batches)
        turn = {
            "pictures": int(line) * batch_size,
            "wall": time.perf_counter() - wall,
            "cpu": _cpu_sec() - cpu,
        }
        print(json.dumps(turn), flush=True)


def _cpu_sec() -> float:
    """Returns CPU seconds of this process and its living children."""
    ticks = 0
    for pid in (pid for pid in os.listdir("/proc") if pid.isdigit()):
        try:
            with open(f"/proc/{pid}/stat") as file:
                # What follows the name, which may hold blanks: state, parent, ...
                fields = file.read().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if os.getpid() in (int(pid), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
