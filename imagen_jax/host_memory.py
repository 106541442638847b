"""How the C library manages the memory of a process that computes on the CPU.

XLA asks for one block of gigabytes at each step and frees it at its end. glibc would
return it to the system, which then hands it out anew, page by page and zeroed: a fifth
of the time of a step of the 28 M benchmark network, and half of it beside other
processes (`benchmarks/freed_memory.sh`). Kept, it costs nothing.
"""

import ctypes
import sys
from pathlib import Path

_DEVICES = Path("/dev")
_ACCELERATORS = ("accel*", "vfio/[0-9]*", "nvidia[0-9]*", "kfd")  # there
# Of glibc's malloc.h. One arena, since only the first can keep large blocks; threads
# then wait for its lock, and launch/environment.sh prefers jemalloc for that reason.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD = -8, -4, -1
_KEEPING = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))


def keep_freed_memory() -> None:
    """Keeps what is freed for the next step; on Linux hosts without an accelerator.

    For commands, before JAX opens its devices: later, its threads have arenas of their
    own. Where steps run on an accelerator, the host's threads decode pictures, and for
    them one arena each is better.
    """
    devices = (path for name in _ACCELERATORS for path in _DEVICES.glob(name))
    if (libc := _glibc()) is None or any(devices):
        return
    for parameter, value in _KEEPING:
        libc.mallopt(parameter, value)


def return_freed_memory() -> None:
    """Gives the system back what glibc keeps of freed memory; nothing elsewhere."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
