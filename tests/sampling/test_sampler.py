import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.diffusion.guidance import null_text
from imagen_jax.diffusion.samplers import SAMPLERS
from imagen_jax.diffusion.spacing import karras
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from tests.tiny import ONE_LEVEL, TOKENS, WIDTH, tiny_stage, tiny_text


@pytest.fixture(scope="module")
def base(fill_params):
    stage = tiny_stage(network=ONE_LEVEL["base"])
    params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 0)
    return Sampler(stage), params


@pytest.fixture(scope="module")
def sr(fill_params):
    stage = tiny_stage("sr", network=ONE_LEVEL["sr"], sampler={"guidance_weight": 2.0})
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
        {"guidance_interval": (-4.0, 1.0)},
        {"guidance": "oscillating"},
        {"guidance_rescale": 0.7},
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
    grid = karras(sampler.stage.schedule, 3)  # and so is another spacing
    spaced = sampler(params, tiny_text(2), settings._replace(logsnrs=grid))
    assert np.abs(np.asarray(spaced) - pictures[0]).max() > 1e-6
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_draws_pictures_and_is_compiled_once(base, kind):
    stage, params = base[0].stage, base[1]
    sampler = Sampler(stage, dataclasses.replace(stage.config.sampler, kind=kind))
    for spacing in ("uniform_t", "karras"):
        config = dataclasses.replace(sampler.config, spacing=spacing)
        settings = sampling_params(config, np.arange(2))
        settings = settings._replace(logsnrs=Sampler(stage, config).logsnrs)
        pictures = np.asarray(sampler(params, tiny_text(2), settings))
        assert np.abs(pictures).max() <= 1.0
        assert pictures.std() > 0.05
    assert sampler.num_traces == 1


def test_spacing_of_the_config_is_used(base):
    """Explicit times that are even in t give the pictures of uniform_t."""
    stage, params = base[0].stage, base[1]
    text, pictures = tiny_text(2), {}
    for name, changes in {
        "uniform": {},
        "same": {"spacing": "explicit", "times": (1.0, 2 / 3, 1 / 3)},
        "other": {"spacing": "explicit", "times": (1.0, 0.5, 0.1)},
    }.items():
        sampler = Sampler(stage, dataclasses.replace(stage.config.sampler, **changes))
        settings = sampling_params(sampler.config, np.arange(2))
        pictures[name] = np.asarray(sampler(params, text, settings))
    np.testing.assert_allclose(pictures["same"], pictures["uniform"], atol=1e-4)
    assert np.abs(pictures["other"] - pictures["uniform"]).max() > 1e-3


def test_guidance_acts_inside_its_interval_only(base):
    sampler, params = base
    text = tiny_text(2)

    def drawn(**changes):
        config = dataclasses.replace(sampler.config, **changes)
        return np.asarray(sampler(params, text, sampling_params(config, np.arange(2))))

    # the levels of 3 steps are -20, -1.1 and 1.1
    everywhere = drawn(guidance_interval=(-20.0, 20.0))
    np.testing.assert_array_equal(everywhere, drawn())
    nowhere = drawn(guidance_interval=(5.0, 20.0))
    np.testing.assert_allclose(nowhere, drawn(guidance_weight=1.0), atol=1e-4)
    middle = drawn(guidance_interval=(-2.0, 0.0))
    assert np.abs(middle - everywhere).max() > 1e-4
    assert np.abs(middle - nowhere).max() > 1e-4


def test_a_second_prompt_is_blended_in(base):
    """Share 0 is the first prompt alone, share 1 the second; all one program."""
    sampler, params = Sampler(base[0].stage), base[1]
    first, second = tiny_text(2), tiny_text(2, seed=8)

    def alone(text):
        settings = sampling_params(sampler.config, np.arange(2))
        return np.asarray(sampler(params, text, settings))

    def blended(share):
        settings = sampling_params(sampler.config, np.arange(2), blend=share)
        return np.asarray(sampler(params, first, settings, second_text=second))

    np.testing.assert_allclose(blended(0.0), alone(first), atol=1e-4)
    np.testing.assert_allclose(blended(1.0), alone(second), atol=1e-4)
    half = blended(0.5)
    for end in (alone(first), alone(second)):
        assert np.abs(half - end).max() > 1e-3
    assert sampler.num_traces == 2  # without and with a second prompt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 200_000}, "take fewer steps"),
        (
            {"spacing": "karras", "spacing_limits": (9.0, 12.0)},
            "wider sampler.spacing_limits",
        ),
    ],
)
def test_steps_that_the_schedule_does_not_resolve_are_refused(base, changes, message):
    stage = base[0].stage
    with pytest.raises(UserError, match=message):
        Sampler(stage, dataclasses.replace(stage.config.sampler, **changes))


def test_settings_of_another_step_count_are_refused(base):
    """An index beyond the weights would silently take the last one."""
    sampler, params = base
    config = dataclasses.replace(sampler.config, num_steps=4)
    settings = sampling_params(config, np.arange(2))
    with pytest.raises(ValueError, match="the sampler has 3"):
        sampler(params, tiny_text(2), settings)
    settings = sampling_params(sampler.config, np.arange(2))
    grid = jnp.linspace(-5.0, 5.0, 6)
    with pytest.raises(ValueError, match="the sampler has 3"):
        sampler(params, tiny_text(2), settings._replace(logsnrs=grid))
