import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from imagen_jax.models.convolution import convolve
from imagen_jax.models.convolution_by_tiles import pays_by_tiles


def plain(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def random(shape, seed, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def gradients(function, x, kernel, weights, stride):
    def loss(x, kernel):
        return jnp.sum(weights * function(x, kernel, stride).astype(jnp.float32))

    return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)


@pytest.mark.parametrize(
    ("batch", "height", "width", "size", "stride"),
    [
        (2, 64, 64, 3, 1),  # several rows at a time
        (3, 33, 31, 3, 1),  # heights with odd divisors
        (16, 8, 8, 3, 1),  # several pictures at a time
        (1, 2, 600, 3, 1),  # one row is more than a chunk
        (2, 20, 12, 7, 1),
        (2, 16, 16, 3, 2),  # what follows is left to XLA
        (2, 16, 16, 1, 1),
        (2, 16, 16, 2, 2),
    ],
)
def test_gradients_are_those_of_xla(batch, height, width, size, stride):
    x = random((batch, height, width, 5), 0)
    kernel = random((size, size, 5, 4), 1)
    weights = random(plain(x, kernel, stride).shape, 2)
    ours = gradients(convolve, x, kernel, weights, stride)
    theirs = gradients(plain, x, kernel, weights, stride)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=0, atol=2e-5 * abs(other).max())


def test_bfloat16_gradient_is_summed_in_float32():
    x, kernel = random((8, 32, 32, 8), 0), random((3, 3, 8, 8), 1)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    weights = random((8, 32, 32, 8), 2).astype(jnp.bfloat16).astype(jnp.float32)
    ours = gradients(convolve, x, kernel, weights, 1)[1]
    exact = gradients(
        plain, x.astype(jnp.float32), kernel.astype(jnp.float32), weights, 1
    )[1]
    assert ours.dtype == jnp.bfloat16
    error = abs(ours.astype(jnp.float32) - exact).max() / abs(exact).max()
    assert error < 2**-8  # one rounding to bfloat16, at the end


@pytest.mark.parametrize(
    ("batch", "height", "width", "size", "wide"),
    [
        (4, 64, 32, 3, (96, 112)),  # by rows
        (3, 33, 31, 3, (96, 112)),
        (16, 8, 8, 5, (96, 112)),
        (4, 16, 16, 3, (96, 112)),  # by rows, the gradient of the kernel by tiles
        (4, 16, 16, 3, (32, 48)),  # by tiles
    ],
)
def test_bfloat16_is_the_convolution_in_float32(batch, height, width, size, wide):
    """Value and both gradients are the exact ones of the rounded arguments, rounded."""
    x = random((batch, height, width, wide[0]), 0, jnp.bfloat16)
    kernel = random((size, size, *wide), 1, jnp.bfloat16)
    weights = random((batch, height, width, wide[1]), 2, jnp.bfloat16)
    weights = weights.astype(jnp.float32)
    ours = [convolve(x, kernel, 1), *gradients(convolve, x, kernel, weights, 1)]
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    exact = [plain(x, kernel, 1), *gradients(plain, x, kernel, weights, 1)]
    for mine, other in zip(ours, exact, strict=True):
        assert mine.dtype == jnp.bfloat16
        error = abs(mine.astype(jnp.float32) - other).max() / abs(other).max()
        assert error < 2**-8


@pytest.mark.parametrize(
    ("batch", "height", "width", "channels"),
    [
        (3, 8, 8, (32, 48)),
        (8, 16, 16, (48, 32)),  # several chunks of several pictures
        (2, 64, 64, (32, 32)),  # a picture is more than a chunk
        (2, 6, 10, (96, 33)),
        (1, 2, 2, (32, 32)),  # one tile, which sees zeros all around
    ],
)
def test_by_tiles_is_the_convolution(batch, height, width, channels):
    """Value and gradients, to float32's rounding of sums in float64."""
    arrays = [
        random((batch, height, width, channels[0]), 0),
        random((3, 3, *channels), 1),
        random((batch, height, width, channels[1]), 2),
    ]
    x, kernel, weights = arrays
    assert pays_by_tiles(x.shape, kernel.shape)
    ours = [convolve(x, kernel, 1), *gradients(convolve, x, kernel, weights, 1)]
    with jax.enable_x64():
        x, kernel, weights = (jnp.asarray(a, jnp.float64) for a in arrays)
        y, backward = jax.vjp(lambda x, kernel: plain(x, kernel, 1), x, kernel)
        exact = [np.asarray(a) for a in (y, *backward(weights))]
    for mine, other in zip(ours, exact, strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, other, rtol=0, atol=3e-6 * abs(other).max())


@pytest.mark.parametrize(
    ("x", "kernel", "pays"),
    [
        ((2, 16, 16, 32), (3, 3, 32, 32), True),
        ((2, 16, 16, 31), (3, 3, 31, 64), False),
        ((2, 16, 16, 64), (3, 3, 64, 31), False),
        ((2, 16, 15, 64), (3, 3, 64, 64), False),
        ((2, 15, 16, 64), (3, 3, 64, 64), False),
        ((2, 64, 64, 32), (3, 3, 32, 32), True),
        ((2, 64, 64, 32), (3, 3, 32, 33), False),
        ((2, 64, 64, 33), (3, 3, 33, 32), False),
    ],
)
def test_where_tiles_pay(x, kernel, pays):
    assert pays_by_tiles(x, kernel) == pays


@pytest.mark.parametrize(
    ("channels", "dtype", "by_xla"),
    [
        ((96, 96), jnp.bfloat16, 0),  # by rows
        ((96, 64), jnp.bfloat16, 0),  # by tiles
        ((96, 24), jnp.bfloat16, 2),
        ((96, 96), "float32", 0),
        ((96, 24), "float32", 2),
    ],
)
def test_wide_convolutions_are_matrix_products_on_cpus(channels, dtype, by_xla):
    def step(x, kernel):
        return jax.value_and_grad(lambda x: convolve(x, kernel).sum())(x)

    x = jnp.ones((2, 16, 16, channels[0]), dtype)
    arguments = (x, jnp.ones((3, 3, *channels), dtype))
    text = jax.jit(step).lower(*arguments).as_text()
    assert text.count("stablehlo.convolution") == by_xla
    exported = jax.export.export(jax.jit(step), platforms=["tpu"])(*arguments)
    assert exported.mlir_module().count("stablehlo.convolution") == 2


def test_cpu_program_has_no_convolution_of_xla_for_the_kernel_gradient():
    def gradient(x, kernel):
        return jax.grad(lambda k: convolve(x, k).sum())(kernel)

    arguments = (jnp.ones((2, 16, 16, 4)), jnp.ones((3, 3, 4, 4)))
    text = jax.jit(gradient).lower(*arguments).as_text()
    assert "stablehlo.convolution" not in text
    exported = jax.export.export(jax.jit(gradient), platforms=["tpu"])(*arguments)
    assert "stablehlo.convolution" in exported.mlir_module()
    assert "stablehlo.while" not in exported.mlir_module()


@pytest.mark.parametrize("channels", [(4, 6), (32, 48)], ids=["by rows", "by tiles"])
@pytest.mark.parametrize("split", [2, 8])
def test_sharded_batch_is_summed_once_over_the_devices(split, channels):
    if jax.device_count() < split:
        pytest.skip(f"needs {split} devices")
    mesh = jax.make_mesh((split,), ("data",), devices=jax.devices()[:split])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    c, d = channels
    x, weights = random((8, 16, 16, c), 0), random((8, 16, 16, d), 1)
    kernel = random((3, 3, c, d), 2)

    @functools.partial(jax.jit, in_shardings=(rows, whole, rows), out_shardings=whole)
    def gradient(x, kernel, weights):
        return jax.grad(lambda k: jnp.sum(weights * convolve(x, k)))(kernel)

    compiled = gradient.lower(x, kernel, weights).compile()
    text = compiled.as_text()
    assert text.count(" all-reduce(") == 1
    (reduced,) = re.findall(r" = \S*\[([0-9,]*)\]\S* all-reduce\(", text)
    assert math.prod(map(int, reduced.split(","))) == kernel.size
    assert "all-gather" not in text
    assert "all-to-all" not in text
    expected = gradients(plain, x, kernel, weights, 1)[1]
    found = compiled(
        jax.device_put(x, rows),
        jax.device_put(kernel, whole),
        jax.device_put(weights, rows),
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=["rows", "tiles"])
def test_a_device_needs_no_other_one_s_pictures(dtype):
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices")
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    x, kernel = random((8, 8, 8, 96), 0, dtype), random((3, 3, 96, 96), 1, dtype)

    @functools.partial(jax.jit, in_shardings=(rows, whole), out_shardings=rows)
    def value_and_gradient(x, kernel):
        y, backward = jax.vjp(lambda x: convolve(x, kernel), x)
        return y, backward(y)[0]

    text = value_and_gradient.lower(x, kernel).compile().as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert f" {collective}(" not in text
