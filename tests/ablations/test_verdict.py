"""What is seen, and what is not: known differences with known noise."""

import numpy as np
import pytest

from imagen_jax.ablations.scoring import score_arm
from imagen_jax.ablations.verdict import compare
from imagen_jax.data.sources import openmoji

NOISE = np.random.default_rng(0).standard_normal((2, 16, 4))


@pytest.mark.parametrize(
    ("shift", "seen"), [(1.5, "more"), (-1.5, "less"), (0.0, "not seen")]
)
def test_a_difference_beyond_the_noise_is_seen(shift, seen):
    made = compare(NOISE + shift, np.zeros_like(NOISE))
    assert made["seen"] == seen
    assert made["low"] < made["difference"] < made["high"]


def test_seeds_that_disagree_are_not_seen():
    """Far beyond the interval over prompts, yet one seed says the opposite."""
    first = 0.01 * NOISE + np.array([3.0, -1.0])[:, None, None]
    made = compare(first, np.zeros_like(NOISE))
    assert made["low"] > 0
    assert made["seen"] == "not seen"


def test_more_pictures_of_a_prompt_are_no_more_prompts():
    prompts = NOISE.mean(axis=2, keepdims=True)
    one = compare(prompts, np.zeros_like(prompts))
    many = compare(prompts.repeat(9, axis=2), np.zeros((2, 16, 9)))
    assert many["low"] == pytest.approx(one["low"])


def test_real_drawings_score_and_clipping_is_seen():
    pair = next(pair for pair in openmoji.pairs("default") if pair.held_out)
    picture = openmoji.compose_variant(pair, 0, "test", 64)
    pictures = np.stack([picture, np.where(picture > 127, 255, 0).astype(np.uint8)])
    scores = score_arm(pictures, [pair, pair])
    assert scores["object_accuracy"][0] == scores["ground_accuracy"][0] == 1.0
    assert scores["saturated_share"][0] < scores["saturated_share"][1] == 1.0
    grey = np.full_like(pictures, 128)
    assert (score_arm(grey, [pair, pair])["chroma"] == 0).all()
