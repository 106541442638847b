import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.guidance import null_text
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from tests.tiny import TOKENS, WIDTH, tiny_stage, tiny_text


@pytest.fixture(scope="module")
def base(fill_params):
    stage = tiny_stage()
    params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 0)
    return Sampler(stage), params


@pytest.fixture(scope="module")
def sr(fill_params):
    stage = tiny_stage("sr", sampler={"guidance_weight": 2.0})
    params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 0)
    return Sampler(stage), params


def low_res(b, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, (b, 8, 8, 3)), jnp.float32)


def test_pictures_are_in_range_and_of_the_stage_s_size(base):
    sampler, params = base
    settings = sampling_params(sampler.config, np.arange(4))
    pictures = np.asarray(sampler(params, tiny_text(4), settings))
    assert pictures.shape == (4, 8, 8, 3)
    assert np.abs(pictures).max() <= 1.0
    assert pictures.std() > 0.05


def test_compiled_once_while_every_value_changes(base):
    """The trace counter stays at 1: no value of a call recompiles."""
    sampler, params = Sampler(base[0].stage), base[1]
    changes = [
        {},
        {"guidance_weight": 7.5},
        {"percentile": 90.0},
        {"threshold_cap": 1.5},
        {"stochasticity": 1.0},
    ]
    pictures = []
    for i, change in enumerate(changes):
        config = dataclasses.replace(sampler.config, **change)
        settings = sampling_params(config, np.arange(2))
        pictures.append(np.asarray(sampler(params, tiny_text(2), settings)))
        assert sampler.num_traces == 1
        assert i == 0 or np.abs(pictures[i] - pictures[0]).max() > 1e-6
    settings = sampling_params(sampler.config, np.array([7, 11]))
    sampler(params, tiny_text(2, seed=3), settings)
    weights = jnp.array([1.0, 15.0, 1.0])  # oscillating guidance is the same program
    sampler(params, tiny_text(2), settings._replace(guidance_weight=weights))
    assert sampler.num_traces == 1


def test_compiled_once_for_super_resolution(sr):
    sampler, params = Sampler(sr[0].stage), sr[1]
    for level, seed in ((0.0, 0), (0.3, 1), (1.0, 2)):
        config = dataclasses.replace(sampler.config, aug_level=level)
        settings = sampling_params(config, np.arange(2) + seed)
        sampler(params, tiny_text(2, seed), settings, low_res(2, seed))
    assert sampler.num_traces == 1


def test_a_seed_fixes_its_picture_whatever_the_batch(base):
    sampler, params = base
    text = tiny_text(4)
    many = sampler(params, text, sampling_params(sampler.config, np.arange(4)))
    order = np.array([2, 0])
    few = sampler(
        params,
        jax.tree.map(lambda x: x[order], text),
        sampling_params(sampler.config, order),
    )
    np.testing.assert_allclose(many[order], few, atol=1e-4)
    other = sampler(params, text, sampling_params(sampler.config, np.arange(4) + 1))
    assert np.abs(np.asarray(many) - other).max() > 0.01


def test_weight_one_equals_no_guidance(base):
    """w = 1 through the guided program equals the program without guidance."""
    sampler, params = base
    text = tiny_text(2)
    plain = dataclasses.replace(sampler.config, guidance_weight=1.0)
    settings = sampling_params(plain, np.arange(2))
    unguided = sampler(params, text, settings)
    # A weight that is 1 but for a last step of w = 1 + 1e-7 takes the guided program.
    weights = jnp.array([1.0, 1.0, 1.0000001], jnp.float32)
    guided = sampler(params, text, settings._replace(guidance_weight=weights))
    np.testing.assert_allclose(guided, unguided, atol=1e-4)


def test_uncond_is_the_null_text_unless_given(base):
    sampler, params = base
    text = tiny_text(2)
    settings = sampling_params(sampler.config, np.arange(2))
    null = null_text(2, TOKENS, WIDTH, jnp.float32)
    implicit = sampler(params, text, settings)
    explicit = sampler(params, text, settings, uncond_text=null)
    np.testing.assert_array_equal(implicit, explicit)
    negative = sampler(params, text, settings, uncond_text=tiny_text(2, seed=8))
    assert np.abs(np.asarray(implicit) - negative).max() > 1e-3


def test_t08_null_prompt_makes_guidance_do_nothing(base):
    """Red if weight 0 or w + 1 conventions slip in: between equal halves any weight
    must give the same picture.
    """
    sampler, params = base
    text = TextEmbeddings(*null_text(2, TOKENS, WIDTH, jnp.float32))
    pictures = [
        np.asarray(
            sampler(
                params,
                text,
                sampling_params(
                    dataclasses.replace(sampler.config, guidance_weight=w), np.arange(2)
                ),
            )
        )
        for w in (2.0, 9.0)
    ]
    np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-3)


def test_t10_t14_aug_level_reaches_noise_and_network(sr):
    """Red if the level is cast to an integer (always 0) or reversed."""
    sampler, params = sr
    picture = low_res(2)

    def sampled(level, low):
        config = dataclasses.replace(sampler.config, aug_level=level)
        settings = sampling_params(config, np.arange(2))
        return np.asarray(sampler(params, tiny_text(2), settings, low))

    def influence(level):
        return np.abs(sampled(level, picture) - sampled(level, -picture)).mean()

    assert influence(0.0) > influence(0.5) > influence(1.0)
    assert np.abs(sampled(0.1, picture) - sampled(0.2, picture)).max() > 1e-4


def test_t11_the_low_res_noise_is_drawn_once_and_shared(monkeypatch, sr):
    """Red if noise is drawn inside the loop or per half of the guidance pair: the
    conditioning that the network sees must be one array for the whole run.
    """
    sampler, params = sr
    stage = sampler.stage
    seen = []
    monkeypatch.setattr(
        type(stage),
        "denoiser",
        lambda self, params: (
            lambda z, logsnr, cond: (
                jax.debug.callback(lambda x: seen.append(np.asarray(x)), cond.low_res)
                or z * 0.0
            )
        ),
    )
    config = dataclasses.replace(sampler.config, aug_level=0.5, num_steps=3)
    settings = sampling_params(config, np.arange(2))
    Sampler(stage, config)(params, tiny_text(2), settings, low_res(2))
    jax.effects_barrier()
    assert len(seen) == 3
    for low in seen:
        np.testing.assert_array_equal(low, seen[0])
        np.testing.assert_array_equal(low[:2], low[2:])  # cond and uncond halves
    assert np.abs(seen[0][0] - seen[0][1]).max() > 0.1


def test_t16_augmentation_is_there_at_sampling(sr):
    """Red if sampling ignores aug_level: clean and noised conditioning must differ."""
    sampler, params = sr
    pictures = []
    for level in (0.0, 0.6):
        config = dataclasses.replace(sampler.config, aug_level=level)
        settings = sampling_params(config, np.arange(2))
        pictures.append(np.asarray(sampler(params, tiny_text(2), settings, low_res(2))))
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01
