"""What both benchmarks share: flags, a limit on threads, and two ways to report.

Alone a benchmark prints one JSON line. With --serve it speaks the protocol of
`peers/pair.py`: a line `READY {...}` once warm, then for every line `N` it reads, N
steps and a JSON list of their [wall, CPU] seconds. The fields are those of the peers'
workers in `peers/`.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

import jax
from race_configs import DTYPES, MODELS

from imagen_jax.host_memory import keep_freed_memory


def parse_flags(description: str) -> argparse.Namespace:
    """Returns the command line's flags and applies `--threads`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", choices=MODELS, default="base64")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--batch", type=int, help="pictures per step")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help="speak pair.py's protocol")
    parser.add_argument(
        "--return_memory", action="store_true", help="between steps, as glibc does"
    )
    flags = parser.parse_args()
    if not flags.return_memory:
        keep_freed_memory()  # as the package's commands do
    limit_threads(flags.threads)
    return flags


def limit_threads(count: int) -> None:
    """Makes JAX compute on `count` threads; call it before JAX opens its devices.

    XLA sizes its pool by PJRT_NPROC. The thread that starts a program works beside the
    pool, so for one thread the pool's use inside an operation is switched off too.
    """
    os.environ["PJRT_NPROC"] = str(count)
    if count == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def run(
    flags: argparse.Namespace, step: Callable[[], None], about: dict, per_call: int = 1
) -> None:
    """Warms up, then serves or reports.

    Args:
      flags: from `parse_flags`.
      step: does `per_call` steps and waits for their results.
      about: the fields that only the benchmark knows.
      per_call: steps that one call does; times are per step.
    """
    first, _ = timed(step, 2)[0]
    fields = {
        "lib": "imagen_jax",
        "model": flags.model,
        "dtype": flags.dtype,
        "compile": True,
        "channels_last": True,
        "threads": flags.threads,
        "memory": "returned" if flags.return_memory else "kept",
        "first_step_s": round(first, 2),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        **about,
    }
    if flags.serve:
        print("READY " + json.dumps(fields), flush=True)
        for line in sys.stdin:
            print(json.dumps(timed(step, int(line), per_call)), flush=True)
        return
    wall, cpu = zip(*timed(step, flags.steps, per_call), strict=True)
    fields |= {
        "median_step_s": round(statistics.median(wall), 4),
        "min_step_s": round(min(wall), 4),
        "median_cpu_s": round(statistics.median(cpu), 4),
        "min_cpu_s": round(min(cpu), 4),
        "steps": flags.steps,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(fields))


def timed(
    step: Callable[[], None], calls: int, per_call: int = 1
) -> list[tuple[float, float]]:
    """Returns (wall, CPU) seconds per step of each call, CPU over all threads."""
    times = []
    for _ in range(calls):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append((wall / per_call, cpu / per_call))
    return times
