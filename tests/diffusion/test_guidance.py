"""The null text, and guidance in one doubled evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.guidance import drop_text, guide, guided_output, null_text
from imagen_jax.diffusion.parameterization import to_prediction
from imagen_jax.interfaces import Conditioning, TextEmbeddings

Z = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
A = jax.random.normal(jax.random.key(1), Z.shape)
B = jax.random.normal(jax.random.key(2), Z.shape)
TEXT = TextEmbeddings(
    embed=jax.random.normal(jax.random.key(3), (2, 5, 6)),
    mask=jnp.arange(5) < jnp.array([[5], [2]]),
)


def conditioning(text, low_res=None):
    return Conditioning(text.embed, text.mask, low_res)


def denoiser(z, logsnr, cond):
    """Depends on every argument, picture by picture."""
    text = jnp.where(cond.text_mask[..., None], cond.text_embed, 0.0).sum((1, 2))
    out = z * logsnr[:, None, None, None] + text[:, None, None, None]
    return out if cond.low_res is None else out + cond.low_res


def test_null_text_is_zero_and_valid_at_position_0_only():
    text = null_text(2, 5, 6, jnp.bfloat16)
    assert text.embed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(text.embed.astype(np.float32), np.zeros((2, 5, 6)))
    np.testing.assert_array_equal(text.mask, [[True] + [False] * 4] * 2)


def test_drop_text_replaces_the_marked_captions_only():
    dropped = drop_text(TEXT, jnp.array([False, True]))
    null = null_text(1, 5, 6, jnp.float32)
    for kept, was in zip(dropped, TEXT, strict=True):
        np.testing.assert_array_equal(kept[0], was[0])
    for lost, zero in zip(dropped, null, strict=True):
        np.testing.assert_array_equal(lost[1], zero[0])


def test_drop_text_keeps_the_dtype():
    text = TEXT._replace(embed=TEXT.embed.astype(jnp.bfloat16))
    assert drop_text(text, jnp.array([True, False])).embed.dtype == jnp.bfloat16


def test_weight_1_is_cond_and_weight_0_is_uncond_exactly():
    np.testing.assert_array_equal(guide(A, B, jnp.float32(1.0)), A)
    np.testing.assert_array_equal(guide(A, B, jnp.float32(0.0)), B)


@settings(max_examples=30, deadline=None)
@given(weight=st.floats(-2, 20, width=32))
def test_guidance_extrapolates_from_uncond_through_cond(weight):
    guided = guide(A, B, jnp.float32(weight))
    np.testing.assert_allclose(guided, B + weight * (A - B), rtol=1e-3, atol=1e-4)


def test_a_weight_per_picture():
    guided = guide(A, B, jnp.array([1.0, 3.0]))
    np.testing.assert_array_equal(guided[0], A[0])
    np.testing.assert_allclose(guided[1], 3 * A[1] - 2 * B[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("low_res", [None, B])
def test_guided_output_equals_two_evaluations(low_res):
    calls = []

    def counted(z, logsnr, cond):
        calls.append(z.shape[0])
        return denoiser(z, logsnr, cond)

    logsnr, weight = jnp.array([0.5, -2.0]), jnp.float32(4.0)
    cond = conditioning(TEXT, low_res)
    uncond = conditioning(null_text(2, 5, 6, jnp.float32), low_res)
    guided = guided_output(counted, Z, logsnr, cond, uncond, weight)
    assert calls == [4]
    expected = guide(
        denoiser(Z, logsnr, cond), denoiser(Z, logsnr, uncond), jnp.float32(4.0)
    )
    np.testing.assert_allclose(guided, expected, rtol=1e-6)


def test_one_log_snr_reaches_the_network_once_per_picture():
    def echo(z, logsnr, cond):
        return jnp.broadcast_to(logsnr[:, None, None, None], z.shape)

    cond = conditioning(TEXT)
    guided = guided_output(echo, Z, jnp.float32(-3.0), cond, cond, jnp.float32(2.0))
    np.testing.assert_allclose(guided, -3.0)


def test_bfloat16_outputs_are_guided_in_float32():
    def network(z, logsnr, cond):
        return denoiser(z, logsnr, cond).astype(jnp.bfloat16)

    logsnr, cond = jnp.zeros(2), conditioning(TEXT)
    uncond = conditioning(null_text(2, 5, 6, jnp.float32))
    weight = jnp.float32(7.3)
    guided = guided_output(network, Z, logsnr, cond, uncond, weight)
    halves = (network(Z, logsnr, c).astype(jnp.float32) for c in (cond, uncond))
    np.testing.assert_array_equal(guided, guide(*halves, weight))


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_guiding_v_or_x0_equals_guiding_eps(kind):
    logsnr, weight = jnp.array([1.0, -2.0]), jnp.float32(5.0)
    pairs = [to_prediction(kind, output, Z, logsnr) for output in (A, B)]
    own = to_prediction(kind, guide(A, B, weight), Z, logsnr)
    np.testing.assert_allclose(
        own.eps, guide(pairs[0].eps, pairs[1].eps, weight), atol=1e-3
    )
    np.testing.assert_allclose(
        own.x0, guide(pairs[0].x0, pairs[1].x0, weight), atol=1e-3
    )


def test_changing_the_weight_does_not_retrace():
    traces = []

    @jax.jit
    def run(weight):
        traces.append(weight)
        cond = conditioning(TEXT)
        return guided_output(denoiser, Z, jnp.zeros(2), cond, cond, weight)

    for weight in (1.0, 1.35, 8.0):
        run(jnp.float32(weight))
    assert len(traces) == 1
