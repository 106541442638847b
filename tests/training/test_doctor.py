"""The doctor passes what is well, and fails and names each planted fault."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.diffusion import augmentation, parameterization
from imagen_jax.evaluation.super_resolution import psnr
from imagen_jax.training.doctor import examine
from imagen_jax.training.health.faults import NEXT_STEPS
from imagen_jax.training.overfit import fake_text
from tests.tiny import ONE_LEVEL, TOKENS, WIDTH, tiny_config

# What learns soonest, so that a healthy run is short.
QUICK = {"prediction": "x0", "weighting": "x0", "times": "low_discrepancy"}
ONE_AVERAGE = {"ema_decays": [0.9]}
NETWORKS = {**ONE_LEVEL, "base": {**ONE_LEVEL["base"], "attention": [False]}}
TEXT_FN = functools.partial(fake_text, width=WIDTH, max_length=TOKENS)


def diagnose(kind, text_fn=TEXT_FN, **changes):
    settings = {"diffusion": QUICK, "network": NETWORKS[kind], "train": ONE_AVERAGE}
    config = tiny_config(kind, **{**settings, **changes})
    lines = []
    source = SyntheticSource(64, config.resolution)
    verdict = examine(config, source, text_fn, psnr, lines.append)
    return verdict, "\n".join(lines)


def to_zero_one(image):
    return image.astype(jnp.float32) / 255.0


def frozen(ema_params, params, num_updates):
    return ema_params


def flipped(kind, x0, eps, logsnr):
    return -parameterization.target(kind, x0, eps, logsnr)


def of_the_next(x, factor):
    return jnp.roll(augmentation.downsample(x, factor), 1, axis=0)


def inverted_in_the_noise(low_res, aug_level, eps, schedule):
    noised, _ = augmentation.augment(low_res, 1.0 - aug_level, eps, schedule)
    return noised, schedule.logsnr(aug_level)


def inverted_in_words(low_res, aug_level, eps, schedule):
    noised, _ = augmentation.augment(low_res, aug_level, eps, schedule)
    return noised, schedule.logsnr(1.0 - aug_level)


PLANTED = [
    ("base", "pictures in [0, 1]", "training.step.to_unit", to_zero_one),
    ("base", "target sign flipped", "diffusion.loss.target", flipped),
    ("sr", "low-res of another picture", "training.step.downsample", of_the_next),
    ("sr", "aug_level inverted", "stage.augment", inverted_in_the_noise),
    ("sr", "aug_level inverted", "stage.augment", inverted_in_words),
]


def assert_named(verdict, said, fault, steps="0 steps"):
    assert [found.fault for found in verdict.faults] == [fault]
    lines = verdict.text.splitlines()
    assert lines[0] == f"FAIL after {steps}: {fault}"
    assert lines[-1] == f"    next: {NEXT_STEPS[fault]}"
    assert f"FAULT {fault}: " in said


@pytest.mark.parametrize(
    ("kind", "fault", "path", "function"),
    PLANTED,
    ids=[function.__name__ for *_, function in PLANTED],
)
def test_a_planted_fault_is_named(kind, fault, path, function, monkeypatch):
    monkeypatch.setattr(f"imagen_jax.{path}", function)
    verdict, said = diagnose(kind)
    assert_named(verdict, said, fault)


def test_empty_text_masks_are_named():
    def no_masks(captions):
        text = TEXT_FN(captions)
        return text._replace(mask=np.zeros_like(text.mask))

    assert_named(*diagnose("base", text_fn=no_masks), "all text masks empty")


def test_a_learning_rate_of_0_is_named():
    verdict, said = diagnose("base", optimizer={"learning_rate": 0.0})
    assert_named(verdict, said, "learning rate 0", "1 step")


def test_a_frozen_average_is_named(monkeypatch):
    monkeypatch.setattr("imagen_jax.training.step.update_ema", frozen)
    assert_named(*diagnose("base"), "EMA frozen", "1 step")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "sr"])
def test_a_healthy_stage_passes(kind):
    verdict, said = diagnose(kind, sampler={"kind": "ddim", "num_steps": 8})
    assert verdict.passes
    assert np.median(verdict.psnr_db) > 20
    assert verdict.samples.shape == verdict.pictures.image.shape
    assert verdict.text.startswith("PASS after ")
    assert "FAULT" not in said


@pytest.mark.slow
def test_a_stage_that_is_not_told_its_text_cannot_pass(monkeypatch):
    """All checks are well, and yet nothing can be sampled back."""
    monkeypatch.setattr("imagen_jax.training.doctor.MAX_STEPS", 100)

    def same(captions):
        return TEXT_FN(["one text"] * len(captions))

    verdict, _ = diagnose("base", text_fn=same)
    assert [found.fault for found in verdict.faults] == ["not overfitted"]
    assert "FAIL after 100 steps: not overfitted" in verdict.text
