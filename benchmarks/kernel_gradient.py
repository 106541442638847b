"""Times the kernel gradient of a 3 x 3 convolution: by tiles, by rows, and XLA's own.

    python benchmarks/kernel_gradient.py

One thread; prints one JSON line per shape of the base64 model at batch 8, GFLOP of the
plain sums per CPU-second, the best of 3 repetitions of each, turn by turn. `pays` is
whether a CPU's program takes the tiles.
"""

import json
import time

from worker import limit_threads

limit_threads(1)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from imagen_jax.models import convolution  # noqa: E402
from imagen_jax.models.convolution_by_tiles import (  # noqa: E402
    kernel_gradient_by_tiles,
    pays_by_tiles,
)

BATCH, KERNEL = 8, 3
SHAPES = (  # side, channels in, channels out
    (64, 64, 64),
    (64, 192, 64),
    (32, 128, 128),
    (16, 384, 192),
    (8, 256, 256),
)


def by_rows(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns the kernel gradient as a CPU's program has it where tiles do not pay."""
    return convolution.kernel_gradient_by_rows(x, grad, size=KERNEL)


def by_xla(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns the kernel gradient as XLA computes it."""
    return convolution.kernel_gradient_by_xla(x, grad, size=KERNEL, stride=1)


def main() -> None:
    """Times both at each shape."""
    rng = np.random.default_rng(0)
    for side, c, d in SHAPES:
        x = jnp.asarray(rng.standard_normal((BATCH, side, side, c), np.float32))
        grad = jnp.asarray(rng.standard_normal((BATCH, side, side, d), np.float32))
        gflop = 2 * BATCH * side**2 * KERNEL**2 * c * d / 1e9
        functions = {
            "by_tiles": kernel_gradient_by_tiles,
            "by_rows": jax.jit(by_rows),
            "by_xla": jax.jit(by_xla),
        }
        results = {name: f(x, grad) for name, f in functions.items()}
        errors = [np.abs(r - results["by_xla"]).max() for r in results.values()]
        seconds = dict.fromkeys(functions, float("inf"))
        for _ in range(3):
            for name, function in functions.items():
                start = time.process_time()
                function(x, grad).block_until_ready()
                seconds[name] = min(seconds[name], time.process_time() - start)
        line = {"side": side, "channels_in": c, "channels_out": d}
        line["pays"] = pays_by_tiles(x.shape, (KERNEL, KERNEL, c, d))
        line |= {
            f"gflop_per_cpu_s_{n}": round(gflop / s, 1) for n, s in seconds.items()
        }
        line["largest_relative_error"] = float(
            max(errors) / np.abs(results["by_xla"]).max()
        )
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
