"""Freed memory stays with a process that computes on the CPU: its steps fault less."""

import subprocess
import sys

import pytest

from imagen_jax import host_memory

STEPS = """
import resource, sys
import jax, jax.numpy as jnp
from imagen_jax.host_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
@jax.jit
def step(x):
    # Temporaries of 64 MiB that cannot be fused away.
    return jnp.roll(jnp.outer(x, x), 1, axis=0) @ x
x = jnp.arange(1 << 12, dtype=jnp.float32) + jnp.arange(1 << 12)[::-1] * 0.5
# While small blocks find their places the heap grows by a temporary now and then: most
# often in the first 20 steps, so one growth of a few later steps would say nothing.
for _ in range(40):
    step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    step(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is of Linux")
def test_steps_take_their_memory_from_what_the_process_kept(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("LD_PRELOAD", raising=False)  # another malloc than glibc's
    faults = {}
    for way in ("kept", "returned"):
        command = [sys.executable, "-c", STEPS, way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[way] = int(done.stdout)
    assert faults["returned"] > 10_000  # pages of 4 kB in a step
    assert faults["kept"] < faults["returned"] / 10


def test_a_host_with_an_accelerator_is_left_alone(tmp_path, monkeypatch):
    calls = []

    class Libc:
        def mallopt(self, *arguments):
            calls.append(arguments)

    monkeypatch.setattr(host_memory, "_glibc", Libc)
    monkeypatch.setattr(host_memory, "_DEVICES", tmp_path)
    host_memory.keep_freed_memory()
    assert len(calls) == 3
    (tmp_path / "accel0").touch()
    host_memory.keep_freed_memory()
    assert len(calls) == 3
