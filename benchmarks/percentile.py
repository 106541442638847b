r"""Times the percentile of dynamic thresholding: by counting, and by `jnp.percentile`.

    python benchmarks/percentile.py --size=1024

Prints one JSON line per batch size: median wall and CPU seconds of a call of either,
and whether the results are equal to the last bit. The pictures are normal noise;
neither way's time depends on the numbers.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from worker import limit_threads, timed

from imagen_jax.diffusion.percentile import percentile


def sort_percentile(magnitude: jax.Array, percent: jax.Array) -> jax.Array:
    """Returns the same by a full sort."""
    return jnp.percentile(magnitude, percent, axis=(1, 2, 3), keepdims=True)


def measure(name: str, call: Callable[[], jax.Array], calls: int) -> dict[str, float]:
    """Returns the median wall and CPU seconds of a call, by their names in the line."""
    wall, cpu = zip(*timed(lambda: call().block_until_ready(), calls), strict=True)
    return {
        f"{name}_s": round(statistics.median(wall), 4),
        f"{name}_cpu_s": round(statistics.median(cpu), 4),
    }


def main() -> None:
    """Parses the flags, times both and prints the lines."""
    parser = argparse.ArgumentParser(description="Time the percentile of |x0|.")
    parser.add_argument("--size", type=int, default=1024, help="side in pixels")
    parser.add_argument("--batches", default="1,4", help="batch sizes by commas")
    parser.add_argument("--percent", type=float, default=99.5)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    flags = parser.parse_args()
    limit_threads(flags.threads)

    count, sort = jax.jit(percentile), jax.jit(sort_percentile)
    percent = jnp.float32(flags.percent)
    for batch in map(int, flags.batches.split(",")):
        shape = (batch, flags.size, flags.size, 3)
        magnitude = jnp.abs(jax.random.normal(jax.random.key(0), shape))
        equal = np.array_equal(count(magnitude, percent), sort(magnitude, percent))
        line = {
            "shape": shape,
            "percent": flags.percent,
            **measure("count", lambda x=magnitude: count(x, percent), flags.calls),
            **measure("sort", lambda x=magnitude: sort(x, percent), flags.calls),
            "equal": bool(equal),
            "threads": flags.threads,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
