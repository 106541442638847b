"""Compiling a program for a slice that is not there, and what the compiler reports.

The memory is XLA's own: `peak_bytes` is what its buffer assignment needs on one chip,
arguments included. At the fast effort (libtpu's `optimization_level` 9, which is O0)
compiling takes a fifth of the CPU time, and the peak is off the full one's, to either
side: see `FAST_PEAK_ERRORS`.

FLOPs are not taken from the compiler: its count takes the body of a loop once.
"""

import os
import re
import time
from typing import NamedTuple

import jax
from jax.stages import Compiled, Lowered

from imagen_jax.planning.collectives import sent_by_kind
from imagen_jax.planning.topology import GIB

# The fast effort's peak against the full one's, on the two programs compiled at both
# with jax 0.10.2: the sampler of SR1024, batch 1, one v5e chip (2.45 and 3.22 GiB), and
# the train step of a small base on v5e:4x4 (1.28 and 1.07 GiB).
FAST_PEAK_ERRORS = (-0.24, 0.20)

EFFORTS = {"fast": {"optimization_level": 9}, "full": {}}

# "... required for HLO temporaries (49.92G) exceeds available HBM (15.75G)."
_TOO_LARGE = re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)G\)")
_UNITS = {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


class Report(NamedTuple):
    """What the compiler said.

    Attributes:
      effort: a key of `EFFORTS`.
      seconds: of compiling, lowering not included.
      cpu_seconds: of the same.
      fits: False if the program needs more memory than a chip has.
      peak_bytes: on one chip; where it does not fit, of the temporaries at least.
      argument_bytes: of it, what goes in.
      temporary_bytes: what is neither argument nor result; 0 where it does not fit.
      sent_bytes: per step and chip, by kind of collective.
      hlo_lines: lines of the optimized program.
      jax: its version.
    """

    effort: str
    seconds: float
    cpu_seconds: float
    fits: bool
    peak_bytes: int
    argument_bytes: int = 0
    temporary_bytes: int = 0
    sent_bytes: dict[str, int] = {}  # noqa: RUF012, never changed
    hlo_lines: int = 0
    jax: str = jax.__version__


def compile_program(lowered: Lowered, effort: str = "fast") -> Report:
    """Returns what the compiler reports of a program.

    Args:
      lowered: from `programs`.
      effort: "fast", or "full" for what a run compiles with.
    """
    start, cpu_start = time.monotonic(), _cpu_seconds()

    def spent() -> tuple[float, float]:
        wall, cpu = time.monotonic() - start, _cpu_seconds() - cpu_start
        return round(wall, 1), round(cpu, 1)

    try:
        compiled = lowered.compile(compiler_options=EFFORTS[effort])  # pyright: ignore
    except jax.errors.JaxRuntimeError as error:
        needed = too_large(str(error))
        if needed is None:
            raise
        return Report(effort, *spent(), fits=False, peak_bytes=needed)
    return read_report(compiled, effort, *spent())


def read_report(
    compiled: Compiled, effort: str, seconds: float, cpu_seconds: float
) -> Report:
    """Returns the report of a compiled program."""
    memory = compiled.memory_analysis()
    assert memory is not None
    text = compiled.as_text() or ""
    return Report(
        effort,
        seconds,
        cpu_seconds,
        fits=True,
        peak_bytes=memory.peak_memory_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        sent_bytes=sent_by_kind(text),
        hlo_lines=text.count("\n"),
    )


def too_large(message: str) -> int | None:
    """Returns the bytes that the compiler could not place; None for another error."""
    found = _TOO_LARGE.search(message)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system
