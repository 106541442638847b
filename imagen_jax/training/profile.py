"""A profile of some steps of a run: `--profile=START:STOP`.

The trace is written to `workdir/profile` by process 0, in the format that TensorBoard's
profiler, xprof and Perfetto read. It covers the steps START to STOP - 1 and what the
loop does between them. A run that resumes inside the window traces what is left of it,
and one that resumes after it traces nothing, so a restarted job may keep its flags.
"""

import re
from pathlib import Path
from typing import Any

import jax

from imagen_jax.errors import UserError


def parse_window(text: str | None, num_steps: int) -> range:
    """Returns the steps that `--profile` names; none for None.

    Args:
      text: the flag's value, "START:STOP"; the first step is 1.
      num_steps: of the run.

    Raises:
      UserError: it is something else, or begins after the run.
    """
    if text is None:
        return range(0)
    match = re.fullmatch("([0-9]{1,12}):([0-9]{1,12})", text)
    start, stop = map(int, match.groups()) if match else (0, 0)
    if not 1 <= start < stop:
        raise UserError(
            f"--profile is {text!r}; give START:STOP, with 1 <= START < STOP, to trace "
            "the steps START to STOP - 1"
        )
    if start > num_steps:
        raise UserError(
            f"--profile is {text!r} and train.num_steps {num_steps}; START must be a "
            "step of the run"
        )
    return range(start, stop)


class Profiler:
    """Traces the steps of a window; use it as a context around the loop."""

    def __init__(self, steps: range, folder: Path):
        """Notes what to trace.

        Args:
          steps: the window; empty for no trace.
          folder: where the trace is written, made if there is one.
        """
        self._steps = steps if jax.process_index() == 0 else range(0)
        self._folder = folder
        self._tracing = False

    def __enter__(self) -> "Profiler":
        """Returns itself; the trace starts with its first step."""
        return self

    def before_step(self, step: int, state: Any) -> None:
        """Starts or stops the trace where the window begins or ends.

        Args:
          step: about to be taken.
          state: what the steps before it give. It is waited for then, so that a trace
            holds the whole work of its own steps.
        """
        if (step in self._steps) == self._tracing:
            return
        jax.block_until_ready(state)
        if self._tracing:
            self._stop()
        else:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of Python would be an event
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._tracing = True

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()

    def __exit__(self, *exception) -> None:
        """Writes the trace of a run that ends inside the window."""
        if self._tracing:
            self._stop()
