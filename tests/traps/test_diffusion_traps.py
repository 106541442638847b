"""One test per known slip of other implementations that `diffusion` could repeat.

The ids T1 to T42 are those of the traps table in `tests/traps`. Each docstring names
the one-line change ("Mutation") that turns its test red.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.augmentation import augment, to_unit
from imagen_jax.diffusion.guidance import drop_text, guide, null_text
from imagen_jax.diffusion.loss import denoising_loss, sample_times
from imagen_jax.diffusion.parameterization import target
from imagen_jax.diffusion.process import alpha_sigma, diffuse
from imagen_jax.diffusion.samplers import ddim_step
from imagen_jax.diffusion.schedule import KINDS, LinearSchedule, make_schedule
from imagen_jax.diffusion.thresholding import dynamic_threshold, threshold
from imagen_jax.interfaces import Conditioning, Prediction, TextEmbeddings

SHAPE = (4, 3, 5, 3)  # b, h and w differ, so that a wrong axis cannot broadcast
NOISE = jax.random.normal(jax.random.key(1), SHAPE)
COSINE = make_schedule("cosine", -20.0, 20.0)
COND = Conditioning(jnp.zeros((4, 1, 1)), jnp.ones((4, 1), bool))


def pictures(scale=1.0):
    return scale * jax.random.uniform(jax.random.key(0), SHAPE, minval=-1.0)


def test_t01_threshold_runs_on_a_batch_and_keeps_its_shape():
    """The figure's `jnp.max(s, 1.0)` raises, and s of shape (b,) does not broadcast.

    Mutation: `keepdims=True` -> `keepdims=False` in `dynamic_threshold`.
    """
    x0 = dynamic_threshold(pictures(3.0), jnp.float32(95.0))
    assert x0.shape == SHAPE
    assert float(jnp.abs(x0).max()) == 1.0


@pytest.mark.parametrize("cap", [0.5, 1.0, 2.0])
def test_t03_threshold_never_below_one(cap):
    """A picture in range must not be stretched, whatever the cap.

    Mutation: `jnp.maximum(jnp.minimum(s, cap), 1.0)` -> `jnp.minimum(s, cap)`.
    """
    dim = pictures(0.4)
    np.testing.assert_array_equal(dynamic_threshold(dim, jnp.float32(90.0), cap), dim)


def test_t04_percentile_is_per_picture():
    """One bright picture must not darken the others, wherever it stands in the batch.

    Mutation: `axis=(1, 2, 3)` -> `axis=(0, 1, 2, 3)`, or s taken from picture 0.
    """
    scales = jnp.array([8.0, 0.5, 3.0, 1.5])[:, None, None, None]
    x0, p = pictures() * scales, jnp.float32(95.0)
    together = dynamic_threshold(x0, p)
    for i in range(4):
        alone = dynamic_threshold(x0[i : i + 1], p)[0]
        np.testing.assert_allclose(together[i], alone, rtol=1e-6)


def test_t05_percentile_of_the_magnitude_with_linear_interpolation():
    """|x0| counts, ranks are interpolated: 80 % of 1 2 3 4 5 is 4.2, not 4.

    Mutation: `jnp.abs(x0...)` -> `x0...`, or `method="nearest"` in `jnp.percentile`.
    """
    x0 = -jnp.arange(1.0, 6.0).reshape(1, 1, 5, 1)
    expected = -np.minimum(np.arange(1.0, 6.0), 4.2) / 4.2
    after = dynamic_threshold(x0, jnp.float32(80.0)).ravel()
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_t05_percentile_in_float32_even_of_bfloat16():
    """Between the bfloat16 neighbours 2 and 2.015625 lies the percentile 2.0078.

    Mutation: `.astype(jnp.float32)` removed in `dynamic_threshold`.
    """
    x0 = jnp.array([2.0, 2.015625], jnp.bfloat16).reshape(1, 1, 2, 1)
    after = dynamic_threshold(x0, jnp.float32(50.0)).astype(jnp.float32).ravel()
    np.testing.assert_allclose(after, [2.0 / 2.0078125, 1.0], rtol=1e-4)


def test_t06_ddim_uses_the_noise_that_belongs_to_the_thresholded_x0():
    """The network's own eps and an edited x0 together do not make z.

    Mutation: in `ddim_step`, `eps = prediction.eps`.
    """
    logsnr_t, logsnr_s = jnp.float32(-2.0), jnp.float32(1.0)
    z = diffuse(pictures(4.0), NOISE, logsnr_t)
    x0 = threshold("dynamic", pictures(4.0), jnp.float32(90.0))
    z_s = ddim_step(z, Prediction(x0, NOISE), logsnr_t, logsnr_s, NOISE, 0.0)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = map(alpha_sigma, (logsnr_t, logsnr_s))
    expected = alpha_s * x0 + sigma_s / sigma_t * (z - alpha_t * x0)
    np.testing.assert_allclose(z_s, expected, atol=1e-5)


def test_t07_cap_keeps_contrast_and_can_be_switched_off():
    """A cap limits how much a few extreme pixels darken the rest; none is available.

    Mutation: `jnp.minimum(s, cap)` -> `s`.
    """
    x0 = 10.0 * pictures()
    capped = dynamic_threshold(x0, jnp.float32(99.5), 1.5)
    np.testing.assert_allclose(capped, jnp.clip(x0 / 1.5, -1.0, 1.0), rtol=1e-6)
    uncapped = dynamic_threshold(x0, jnp.float32(99.5))
    assert float(uncapped.std()) < 0.8 * float(capped.std())
    np.testing.assert_array_equal(threshold("none", x0, jnp.float32(99.5)), x0)


def test_t08_weight_1_means_no_guidance():
    """The papers that write (1 + w) call this 0.

    Mutation: `weight * cond + (1.0 - weight) * uncond` ->
    `(1.0 + weight) * cond - weight * uncond`.
    """
    np.testing.assert_array_equal(
        guide(pictures(), NOISE, jnp.float32(1.0)), pictures()
    )
    guided = guide(pictures(), NOISE, jnp.float32(3.0))
    np.testing.assert_allclose(guided, 3 * pictures() - 2 * NOISE, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("byte", "unit"), [(0, -1.0), (255, 1.0)])
def test_t09_scale_to_unit_range_then_noise(byte, unit):
    """A picture noised in [0, 1] and scaled afterwards has a wrong mean and std.

    Mutation: in `augment`, `diffuse((low_res + 1) / 2, ...)` scaled by `* 2 - 1` after.
    """
    low_res = to_unit(jnp.full((1, 32, 32, 3), byte, jnp.uint8))
    eps = jax.random.normal(jax.random.key(2), low_res.shape)
    noised, aug_logsnr = augment(low_res, jnp.array([0.5]), eps, COSINE)
    alpha, sigma = (float(x[0]) for x in alpha_sigma(aug_logsnr))
    # 3072 pixels: standard errors 0.013 of the mean, 0.009 of the deviation
    assert float(noised.mean()) == pytest.approx(alpha * unit, abs=0.06)
    assert float(noised.std()) == pytest.approx(sigma, abs=0.04)


def test_t10_augmentation_level_is_continuous():
    """A level cast to an integer is 0 for every level below 1: always clean.

    Mutation: `schedule.logsnr(aug_level)` ->
    `schedule.logsnr(jnp.floor(aug_level))` in `augment`.
    """
    level = jnp.array([0.1, 0.1005, 0.5, 0.9])
    noised, aug_logsnr = augment(pictures(), level, NOISE, COSINE)
    assert np.all(np.diff(aug_logsnr) < 0)
    assert float(jnp.abs(noised[2] - pictures()[2]).mean()) > 0.2


def test_t12_augmentation_level_is_per_picture():
    """One level for the whole batch shows the network few noise levels a step.

    Mutation: `schedule.logsnr(aug_level)` ->
    `schedule.logsnr(jnp.full_like(aug_level, aug_level[0]))` in `augment`.
    """
    level = jnp.array([0.0, 0.3, 0.6, 0.9])
    noised, aug_logsnr = augment(pictures(), level, NOISE, COSINE)
    np.testing.assert_array_equal(aug_logsnr, COSINE.logsnr(level))
    for i in range(4):
        alpha, sigma = alpha_sigma(COSINE.logsnr(level[i]))
        expected = alpha * pictures()[i] + sigma * NOISE[i]
        np.testing.assert_allclose(noised[i], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_t13_level_1_is_valid_and_almost_only_noise(kind):
    """There is no table of 1000 entries to index one past.

    Mutation: `jnp.clip(value, ...)` -> `value` in `CosineSchedule.logsnr`.
    """
    schedule = make_schedule(kind, -20.0, 20.0)
    noised, aug_logsnr = augment(pictures(), jnp.ones(4), NOISE, schedule)
    assert np.all(np.isfinite(aug_logsnr))
    np.testing.assert_allclose(noised, NOISE, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_t14_level_0_2_is_mostly_clean(kind):
    """aug_level 0 = clean; at 0.2 there is more picture than noise.

    Mutation: `schedule.logsnr(aug_level)` -> `schedule.logsnr(1.0 - aug_level)`.
    """
    schedule = make_schedule(kind, -20.0, 20.0)
    aug_logsnr = augment(pictures(), jnp.full(4, 0.2), NOISE, schedule)[1]
    assert np.all(jnp.exp(aug_logsnr) > 1.5)


def test_t23_dropped_text_keeps_one_valid_key():
    """A softmax over no key is NaN.

    Mutation: in `null_text`, `jnp.arange(n) == 0` -> `jnp.arange(n) < 0`.
    """
    text = TextEmbeddings(jnp.ones((2, 5, 4)), jnp.ones((2, 5), bool))
    dropped = drop_text(text, jnp.array([True, True]))
    np.testing.assert_array_equal(dropped.mask.sum(1), [1, 1])
    scores = jnp.where(dropped.mask, 0.0, -jnp.inf)
    assert np.all(np.isfinite(jax.nn.softmax(scores)))


def test_t24_null_text_is_zero_not_learned():
    """A null token learned from random initialisation was told from text only late.

    Mutation: `jnp.zeros((b, n, d), dtype)` -> `jnp.ones(...)` in `null_text`.
    """
    np.testing.assert_array_equal(null_text(1, 3, 4, jnp.float32).embed, 0.0)


def test_t30_linear_schedule_is_the_exact_limit():
    """1e-4 + 10 t^2 instead of 0.1 t + 9.95 t^2 is off by 0.6 at t = 0.01.

    Mutation: `integral = 1e-4 + 10.0 * t**2` in `LinearSchedule.logsnr`.
    """
    t = np.float64([0.003, 0.01, 0.05])
    expected = -np.log(np.expm1(0.1 * t + 9.95 * t**2))
    got = LinearSchedule().logsnr(jnp.float32(t))
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_t37_target_is_of_the_clean_picture(kind):
    """The target belongs to the data, not to anything a network returned.

    Mutation: in `denoising_loss`, x0 replaced by the noisy picture before `target`.
    """
    t = jnp.array([0.1, 0.4, 0.7, 0.95])
    wanted = target(kind, pictures(), NOISE, COSINE.logsnr(t))
    result = denoising_loss(
        lambda z, logsnr, cond: wanted + 2.0,
        COSINE,
        pictures(),
        NOISE,
        t,
        COND,
        prediction=kind,
        weighting="plain",
    )
    np.testing.assert_allclose(result.square_error, 4.0, rtol=1e-5)


def test_t39_each_picture_has_its_own_time():
    """One key for the whole batch would give one time, or times that change with b.

    Mutation: `jax.vmap(jax.random.uniform)(keys)` ->
    `jax.random.uniform(keys[0], keys.shape)`.
    """
    keys = jax.random.split(jax.random.key(5), 8)
    times = sample_times(keys, "uniform")
    assert np.unique(times).size == 8
    np.testing.assert_array_equal(times[4:], sample_times(keys[4:], "uniform"))


def test_t39_loss_draws_nothing():
    """Noise and times come in as arguments: halves of a batch equal the whole.

    Mutation: in `denoising_loss`, the mean over `axis=(0, 1, 2, 3)`, or any key inside.
    """

    def loss(rows):
        cond = jax.tree.map(lambda x: x[rows], COND)
        t = jnp.array([0.1, 0.4, 0.7, 0.95])[rows]
        return denoising_loss(
            lambda z, logsnr, cond: 0.3 * z,
            COSINE,
            pictures()[rows],
            NOISE[rows],
            t,
            cond,
            prediction="v",
            weighting="min_snr_5",
        ).weighted

    halves = jnp.concatenate([loss(slice(0, 2)), loss(slice(2, 4))])
    np.testing.assert_allclose(halves, loss(slice(0, 4)), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_t40_network_is_told_a_clipped_float32_log_snr(kind):
    """At t = 1 the cosine log-SNR is -inf, and its sinusoid would be NaN.

    Mutation: `jnp.clip(value, ...)` -> `value` in `CosineSchedule.logsnr`.
    """
    seen = []

    def denoiser(z, logsnr, cond):
        seen.append(logsnr)
        return z

    denoising_loss(
        denoiser,
        make_schedule(kind, -20.0, 20.0),
        pictures(),
        NOISE,
        jnp.array([0.0, 1e-7, 1.0 - 1e-7, 1.0]),
        COND,
        prediction="eps",
        weighting="plain",
    )
    assert seen[0].dtype == jnp.float32
    assert np.all(np.abs(seen[0]) <= 20.0)
