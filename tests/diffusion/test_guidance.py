"""The null text, and guidance in one doubled evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_jax.diffusion.guidance import (
    drop_text,
    guidance_weights,
    guide,
    guided_output,
    null_text,
    rescale,
    weight_in_interval,
)
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


def test_constant_weights():
    np.testing.assert_array_equal(guidance_weights("constant", 4, 7.5), [7.5] * 4)


@pytest.mark.parametrize(
    ("hold", "wanted"),
    [
        (0.0, [1, 15, 1, 15, 1, 15]),
        (0.3, [15, 15, 1, 15, 1, 15]),  # 1.8 steps, rounded up
        (1.0, [15] * 6),
    ],
)
def test_oscillating_weights(hold, wanted):
    weights = guidance_weights("oscillating", 6, 15.0, low=1.0, hold=hold)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, wanted)


def test_unknown_guidance_names_the_choices():
    with pytest.raises(ValueError, match="constant, oscillating"):
        guidance_weights("cosine", 4, 2.0)


def test_weight_is_1_outside_the_interval():
    """Both ends belong to it; one log-SNR per picture or one for all."""
    logsnr = jnp.array([-6.0, -5.0, 0.0, 3.0, 3.5])
    interval = jnp.array([-5.0, 3.0])
    weights = weight_in_interval(jnp.float32(4.0), logsnr, interval)
    np.testing.assert_array_equal(weights, [1.0, 4.0, 4.0, 4.0, 1.0])
    everywhere = jnp.array([-jnp.inf, jnp.inf])
    assert float(weight_in_interval(jnp.float32(4.0), logsnr[0], everywhere)) == 4.0


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescale_is_the_papers_formula_per_picture(share):
    guided = jnp.array([3.0, 8.0])[:, None, None, None] * B + A
    result = rescale(guided, A, jnp.float32(share))
    for got, wide, cond in zip(*map(np.float64, (result, guided, A)), strict=True):
        whole = wide * cond.std() / wide.std()
        expected = share * whole + (1 - share) * wide
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    if share == 0.0:
        np.testing.assert_array_equal(result, guided)


def test_rescale_of_a_flat_output_is_finite():
    flat = jnp.zeros_like(A)
    np.testing.assert_array_equal(rescale(flat, A, 1.0), flat)


def test_rescaled_guidance_keeps_the_contrast_of_cond():
    cond, uncond = conditioning(TEXT, B), conditioning(null_text(2, 5, 6, jnp.float32))
    uncond = uncond._replace(low_res=-B)
    arguments = (denoiser, Z, jnp.array([0.5, 1.0]), cond, uncond, jnp.float32(9.0))
    wide = guided_output(*arguments)
    kept = guided_output(*arguments, rescale_share=1.0)
    std = denoiser(*arguments[1:4]).std(axis=(1, 2, 3))
    np.testing.assert_allclose(kept.std(axis=(1, 2, 3)), std, rtol=1e-5)
    assert np.all(wide.std(axis=(1, 2, 3)) > 1.5 * std)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("guided", [True, False])
def test_two_prompts_are_blended_in_one_evaluation(guided, blend):
    """And guidance then acts on the blend."""
    calls = []

    def counted(z, logsnr, cond):
        calls.append(z.shape[0])
        return denoiser(z, logsnr, cond)

    logsnr = jnp.array([0.5, -2.0])
    first, second = conditioning(TEXT), conditioning(TEXT._replace(embed=-TEXT.embed))
    null = conditioning(null_text(2, 5, 6, jnp.float32)) if guided else None
    result = guided_output(
        counted,
        Z,
        logsnr,
        first,
        null,
        jnp.float32(4.0),
        second=second,
        blend=jnp.float32(blend),
    )
    assert calls == [6 if guided else 4]
    outputs = [denoiser(Z, logsnr, cond) for cond in (first, second)]
    expected = (1 - blend) * outputs[0] + blend * outputs[1]
    if null is not None:
        expected = 4.0 * expected - 3.0 * denoiser(Z, logsnr, null)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_without_uncond_and_second_the_batch_is_not_enlarged():
    calls = []

    def counted(z, logsnr, cond):
        calls.append(z.shape[0])
        return denoiser(z, logsnr, cond)

    cond = conditioning(TEXT)
    arguments = (Z, jnp.array([0.5, -2.0]), cond)
    result = guided_output(counted, *arguments, None, jnp.float32(4.0))
    assert calls == [2]
    np.testing.assert_array_equal(result, denoiser(*arguments))
