import pytest

from imagen_jax.errors import UserError
from imagen_jax.sampler_choice import choose_samplers, read_choice
from tests.tiny import tiny_config

CONFIGS = (tiny_config(), tiny_config("sr"))


def chosen(name, value):
    samplers = choose_samplers(CONFIGS, {name: value})
    return [getattr(sampler, name) for sampler in samplers]


def test_without_a_choice_each_stage_keeps_its_own():
    assert choose_samplers(CONFIGS, {"kind": None}) == tuple(
        config.sampler for config in CONFIGS
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("guidance_weight", "5", [5.0, 5.0]),
        ("guidance_weight", "5,1.5", [5.0, 1.5]),
        ("guidance_weight", "own,2", [3.0, 2.0]),
        ("num_steps", "7, 4", [7, 4]),
        ("kind", "ddim", ["ddim", "ddim"]),
        ("threshold", "none,static", ["none", "static"]),
        ("guidance_interval", "(-3,5)", [(-3.0, 5.0), (-3.0, 5.0)]),
        ("guidance_interval", "(-3,5),()", [(-3.0, 5.0), ()]),
        ("guidance_interval", "()", [(), ()]),
        ("spacing_limits", "[-3, 5],[-4.5, 6]", [(-3.0, 5.0), (-4.5, 6.0)]),
    ],
)
def test_one_value_or_one_per_stage(name, text, expected):
    assert chosen(name, read_choice(text)) == expected


def test_more_augmentation_than_in_training_is_a_users_right():
    configs = [tiny_config("sr", diffusion={"aug_level_max": 0.2})]
    assert choose_samplers(configs, {"aug_level": 0.5})[0].aug_level == 0.5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("guidance_weight", "1,2,3", "has 3 values, 1, 2, 3; it must be one, or 2"),
        ("guidance_weight", "", "stage base: sampler.guidance_weight is ''"),
        ("num_steps", "2.5", "sampler.num_steps is 2.5; it must be of type int"),
        ("kind", "ddim,euler", "stage sr16: sampler.kind is 'euler'"),
        ("guidance_interval", "(5,-3)", "two log-SNRs, the lower first"),
        ("guidance_interval", "(1,2),(1,2),(1,2)", "has 3 values"),
        ("guidance_interval", "3", "must be a list"),
        ("threshold", "capped", "threshold_cap 0"),
        ("aug_level", "1.5", "aug_level"),
        ("steps", "3", "unknown sampler setting 'steps'"),
    ],
)
def test_what_is_not_allowed_is_named(name, text, message):
    with pytest.raises(UserError, match=message):
        chosen(name, read_choice(text))
