"""Bytes held at once, of programs small enough to count by hand."""

import jax
import jax.numpy as jnp
import pytest

from imagen_jax.planning.liveness import Program

N = 64
SQUARE = 4 * N * N  # bytes


def peak(function, *shapes, free_inputs=0, output_bytes=None):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return Program(jaxpr.jaxpr, free_inputs, output_bytes or {}).peak()


def product(x, y):
    return jax.lax.dot(x, y)


def test_a_product_holds_operands_and_result():
    assert peak(product, (N, N), (N, N)) == 3 * SQUARE


def test_what_was_read_last_is_free():
    """Of x y z w only two factors and a result are needed at a time, and the inputs."""

    def chain(x):
        for _ in range(5):
            x = product(x, x)
        return x

    # The input stays, since the caller holds it; then one square and its successor.
    assert peak(chain, (N, N)) == 3 * SQUARE
    assert peak(chain, (N, N), free_inputs=1) == 2 * SQUARE


def test_elementwise_work_is_fused():
    def chain(x):
        return (jnp.tanh(jnp.exp(x) + 1.0) * 2.0).sum()

    assert peak(chain, (N, N)) == SQUARE + 4


def test_what_a_product_reads_is_written():
    assert peak(lambda x: product(x, x + 1.0).sum(), (N, N)) == 3 * SQUARE


def test_a_fused_value_keeps_its_sources_alive():
    def late(x):
        y = jnp.exp(product(x, x))  # fused into the sum at the end
        return product(x, x).sum() + y.sum()

    assert peak(late, (N, N)) >= 3 * SQUARE


def test_a_loop_holds_one_round_and_all_it_stacks():
    def loop(x):
        def body(carry, _):
            carry = product(carry, carry)
            return carry, carry

        return jax.lax.scan(body, x, None, length=10)

    # Input, carry out and ten stacked; in a round its product.
    assert peak(loop, (N, N)) == 13 * SQUARE


def test_remat_shrinks_what_is_held():
    def layers(x, ws, remat):
        def layer(x, w):
            h = product(jnp.tanh(product(x, w)), w)
            return product(jnp.tanh(h), w), None

        body = jax.checkpoint(layer) if remat else layer
        return jax.lax.scan(body, x, ws)[0].sum()

    shapes = (N, N), (12, N, N)

    def held(remat):
        return peak(jax.grad(lambda x, ws: layers(x, ws, remat), 1), *shapes)

    assert held(True) < 0.7 * held(False)


def test_known_sizes_of_outputs_count():
    assert peak(product, (N, N), (N, N), output_bytes={0: 8}) == 2 * SQUARE + 8


def test_of_platforms_the_last_counts():
    def choose(x):
        large = lambda x: jnp.concatenate([product(x, x)] * 9).sum()  # noqa: E731
        return jax.lax.platform_dependent(x, cpu=large, default=lambda x: x.sum())

    assert peak(choose, (N, N)) == pytest.approx(SQUARE, abs=16)
