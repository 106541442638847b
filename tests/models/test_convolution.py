import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.models.convolution import convolve


def reference(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (5, 1)])
@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 6, 10, 4)])
def test_value_and_gradients_equal_lax(size, stride, shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, shape[-1], 5)), jnp.float32)
    dy = jnp.asarray(
        rng.standard_normal(reference(x, kernel, stride).shape), jnp.float32
    )
    y, pullback = jax.vjp(lambda x, k: convolve(x, k, stride), x, kernel)
    expected, expected_pullback = jax.vjp(
        lambda x, k: reference(x, k, stride), x, kernel
    )
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(pullback(dy), expected_pullback(dy), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


def test_other_platforms_keep_the_convolution_as_kernel_gradient():
    def gradient(x, kernel):
        return jax.grad(lambda k: convolve(x, k, 1).sum())(kernel)

    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    lowered = jax.jit(gradient).trace(x, kernel)
    on_cpu = lowered.lower(lowering_platforms=("cpu",)).as_text()
    on_tpu = lowered.lower(lowering_platforms=("tpu",)).as_text()
    assert "dot_general" in on_cpu
    assert "dot_general" not in on_tpu
    assert on_tpu.count("stablehlo.convolution") > on_cpu.count("stablehlo.convolution")
