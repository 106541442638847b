"""Several processes, one run: joining them, failing together, stopping together.

Every host runs the same command, and every process takes the same steps in the same
order: one that leaves alone makes the others wait for it. So what one process finds
wrong is raised on all of them (`raise_together`), and a notice to stop that reaches one
of them stops all after the same step (`StopNotice`).
"""

import argparse
import signal
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from imagen_jax.errors import UserError

_MAX_FAULT_BYTES = 1000  # of a sentence that travels between processes


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `join` takes to a command."""
    parser.add_argument(
        "--coordinator", help="HOST:PORT of process 0, or auto: TPU pod, Slurm"
    )
    for name in ("--num_processes", "--process_id"):
        parser.add_argument(name, type=int, help="with --coordinator=HOST:PORT")


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Makes this process one of those that train together; call it before using JAX.

    Args:
      coordinator: "HOST:PORT" of process 0, or "auto" where JAX finds the processes by
        itself (a TPU pod, Slurm, Open MPI); None for a run of one process.
      num_processes: with "HOST:PORT", at least 1.
      process_id: with "HOST:PORT", 0 to `num_processes` - 1.

    Raises:
      UserError: they contradict each other, or there is no cluster to find.
    """
    if coordinator in (None, "auto"):
        if (num_processes, process_id) != (None, None):
            raise UserError(
                "--num_processes and --process_id go with --coordinator=HOST:PORT; "
                f"--coordinator is {coordinator or 'not given'}"
            )
        if coordinator is None:
            return
    else:
        _check_address(coordinator, num_processes, process_id)
    # JAX's default in the versions that CI runs; others would fail at the first step.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise UserError(
                "--coordinator=auto found no TPU pod, Slurm or Open MPI job here "
                f"({error}); give --coordinator=HOST:PORT of process 0, "
                "--num_processes and --process_id"
            ) from error
    else:
        jax.distributed.initialize(coordinator, num_processes, process_id)


def _check_address(
    coordinator: str, num_processes: int | None, process_id: int | None
) -> None:
    if num_processes is None or process_id is None:
        raise UserError(
            f"--coordinator={coordinator} needs --num_processes and --process_id too; "
            "on a TPU pod or under Slurm give --coordinator=auto"
        )
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id is {process_id} and --num_processes {num_processes}; "
            "processes are numbered from 0 to --num_processes - 1"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator is {coordinator!r}; give HOST:PORT of process 0, or auto"
        )


def raise_together(check: Callable[[], None]) -> None:
    """Runs `check` on this process, and raises what it raises on any process.

    All processes must call it. Of several faults that of the lowest process is raised.

    Raises:
      UserError: as `check` does.
    """
    if jax.process_count() == 1:
        check()
        return
    fault = b""
    try:
        check()
    except UserError as error:
        fault = str(error).encode()[:_MAX_FAULT_BYTES]
    row = np.zeros(_MAX_FAULT_BYTES, np.uint8)
    row[: len(fault)] = np.frombuffer(fault, np.uint8)
    for process, other in enumerate(multihost_utils.process_allgather(row)):
        if text := bytes(other).rstrip(b"\0").decode(errors="replace"):
            raise UserError(f"process {process}: {text}")


def same_on_all(value: int) -> int:
    """Returns process 0's `value` on every process; all must call it."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


class StopNotice:
    """Inside the context, SIGTERM asks for a stop instead of ending the process.

    After `join`, a signal to any process counts for all of them, and JAX's preemption
    service, which has its own handler, chooses the step after which all stop. In a run
    of one process the handler is Python's; the two replace each other.
    """

    def __enter__(self) -> "StopNotice":
        """Starts listening."""
        self._received = False
        self._joined = jax.distributed.is_initialized()
        if not self._joined:
            self._old = signal.signal(signal.SIGTERM, self._receive)
        return self

    def _receive(self, signum, frame) -> None:
        self._received = True

    def reached(self, step: int) -> bool:
        """Returns whether to stop after this step: on all processes or on none.

        Args:
          step: the step just taken; every process must ask after each of its steps.
        """
        if self._joined:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    def __exit__(self, *exception) -> None:
        """Restores the handler that was there before."""
        if not self._joined:
            signal.signal(signal.SIGTERM, self._old)
