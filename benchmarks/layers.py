"""Times the layers that this package computes in its own way, beside JAX's and Flax's.

    python benchmarks/layers.py

One thread. One JSON line per layer, shape and type: milliseconds of CPU time of a
forward and a backward pass, the best of 10 of each, turn by turn, and the largest
difference of a result, relative to the largest number in it. Shapes are those of the
shapes recipe (batch 16) and of the base64 model (batch 8). The convolution's kernel
gradient is left out: benchmarks/kernel_gradient.py times it.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator

from worker import limit_threads

limit_threads(1)

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from imagen_jax.models.attention import attend  # noqa: E402
from imagen_jax.models.convolution import convolve  # noqa: E402
from imagen_jax.models.layers import GroupNorm, silu  # noqa: E402
from imagen_jax.models.products import product  # noqa: E402

REPETITIONS = 10
Case = tuple[dict, Callable, Callable, list[jax.Array]]


def main() -> None:
    """Prints a line for each case."""
    cases = (*norms(), *attentions(), *products(), *convolutions())
    for about, ours, plain, arguments in cases:
        print(json.dumps(about | compare(ours, plain, arguments)), flush=True)


def norms() -> Iterator[Case]:
    """Yields GroupNorm, FiLM's scale and shift, SiLU."""
    for shape in ((16, 16, 16, 96), (16, 8, 8, 96), (8, 64, 64, 64), (8, 16, 16, 192)):
        width, groups = shape[-1], 32
        arguments = [normal(*shape), 1 + normal(width) / 4, normal(width)]
        arguments += [normal(shape[0], 192), normal(192, 2 * width) / 50]

        def ours(x, scale, bias, embedding, kernel, groups=groups):
            norm = functools.partial(GroupNorm(groups).apply, as_params(scale, bias))
            return silu(norm(x, embedding @ kernel))

        def plain(x, scale, bias, embedding, kernel, groups=groups):
            norm = nn.GroupNorm(groups, epsilon=1e-5)
            film = (embedding @ kernel)[:, None, None]
            film_scale, film_shift = jnp.split(film, 2, axis=-1)
            h = norm.apply(as_params(scale, bias), x)
            return jax.nn.silu(h * (1 + film_scale) + film_shift)

        yield (
            {"layer": "norm", "shape": shape, "dtype": "float32"},
            ours,
            plain,
            arguments,
        )


def attentions() -> Iterator[Case]:
    """Yields attention of pixels to pixels and 16 tokens."""
    for batch, pixels, heads, width in ((16, 64, 4, 24), (8, 256, 3, 64)):
        shape = (batch, pixels, heads, width)
        query, key = normal(*shape), normal(batch, pixels + 16, heads, width)
        mask = jnp.ones(key.shape[:2], bool)

        def ours(query, key, value, mask=mask):
            return attend(query, key, value, mask)

        def plain(query, key, value, mask=mask):
            return jax.nn.dot_product_attention(
                query, key, value, mask=mask[:, None, None]
            )

        about = {"layer": "attention", "shape": shape, "dtype": "float32"}
        yield about, ours, plain, [query, key, key + 1]


def products() -> Iterator[Case]:
    """Yields dense layers."""
    shapes = ((4096, 64, 64), (1024, 128, 128), (256, 192, 192), (64, 256, 768))
    for pixels, c, d in shapes:
        for dtype in ("float32", "bfloat16"):
            about = {"layer": "dense", "shape": (8, pixels, c, d), "dtype": dtype}
            arguments = [normal(8, pixels, c), normal(c, d) / 16]
            yield about, product, jnp.dot, [x.astype(dtype) for x in arguments]


def convolutions() -> Iterator[Case]:
    """Yields 3 x 3 convolutions, wide ones in bfloat16 too."""
    cases = [
        ((16, 16, 16), 48, 48, "float32"),
        ((16, 16, 16), 96, 96, "float32"),
        ((16, 8, 8), 96, 96, "float32"),
        ((8, 64, 64), 32, 32, "float32"),
    ]
    for side, c, d in ((32, 128, 128), (16, 384, 192), (8, 256, 256)):
        cases += [((8, side, side), c, d, dtype) for dtype in ("float32", "bfloat16")]
    for size, c, d, dtype in cases:
        kernel = (normal(3, 3, c, d) / 50).astype(dtype)

        def plain(x, kernel=kernel):
            numbers = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=numbers
            )

        about = {"layer": "convolution", "shape": (*size, c, d), "dtype": dtype}
        ours = functools.partial(convolve, kernel=kernel)
        yield about, ours, plain, [normal(*size, c).astype(dtype)]


def normal(*shape: int) -> jax.Array:
    """Returns normal numbers."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), np.float32)


def as_params(scale: jax.Array, bias: jax.Array) -> dict:
    """Returns the variables of a norm."""
    return {"params": {"scale": scale, "bias": bias}}


def compare(
    ours: Callable, plain: Callable, arguments: list[jax.Array]
) -> dict[str, float]:
    """Returns the CPU time of both functions, with gradients, and their difference."""

    def both_ways(function: Callable) -> Callable:
        def run(*arguments):
            y, backward = jax.vjp(function, *arguments)
            return y, backward(y)

        return jax.jit(run)

    runs = {"ours_ms": both_ways(ours), "plain_ms": both_ways(plain)}
    results = {name: run(*arguments) for name, run in runs.items()}  # compiles
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            start = time.process_time()
            jax.block_until_ready(run(*arguments))
            seconds[name] = min(seconds[name], time.process_time() - start)

    def difference(a: jax.Array, b: jax.Array) -> float:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return float(jnp.abs(a - b).max() / jnp.abs(b).max())

    differences = jax.tree.leaves(jax.tree.map(difference, *results.values()))
    times = {name: round(1e3 * spent, 2) for name, spent in seconds.items()}
    return times | {"difference": float(f"{max(differences):.1e}")}


if __name__ == "__main__":
    main()
