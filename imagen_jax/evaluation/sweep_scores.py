"""Figures of a sweep's cell: what its drawings show, and whether stages agree."""

import itertools
from collections.abc import Sequence

import numpy as np

from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.prompt_score import score_pictures
from imagen_jax.evaluation.super_resolution import consistency
from imagen_jax.evaluation.sweep import Drawn, Scorer
from imagen_jax.features.clip import Clip
from imagen_jax.metrics.clip_score import clip_scores

SET = "default"  # of the quickstart


def scorers_for(prompts: Sequence[str]) -> list[Scorer]:
    """Returns the figures that can be had for these prompts.

    Object and ground accuracy need prompts of the quickstart's set; consistency in dB
    needs a super-resolution stage and is left out for a base stage alone.
    """
    by_caption = {pair.caption: pair for pair in openmoji.pairs(SET)}
    if not all(prompt in by_caption for prompt in prompts):
        return [score_consistency]
    pairs, emojis = [by_caption[prompt] for prompt in prompts], EmojiScorer(SET)

    def score_prompts(drawn: Drawn) -> dict[str, float]:
        score = score_pictures(emojis, list(drawn.values())[-1], pairs)
        return {
            "object_accuracy": round(float(score.object_right.mean()), 4),
            "ground_accuracy": round(float(score.ground_right.mean()), 4),
        }

    return [score_prompts, score_consistency]


def score_clip(clip: Clip, prompts: Sequence[str], prefix: str = "") -> Scorer:
    """Returns the scorer of the last stage's pictures by CLIP, 100 x mean cosine."""

    def score(drawn: Drawn) -> dict[str, float]:
        pictures = list(drawn.values())[-1]
        scores = clip_scores(clip, pictures, prompts, prefix)
        return {"clip_score": round(float(scores.times_100.mean()), 4)}

    return score


def score_consistency(drawn: Drawn) -> dict[str, float]:
    """Returns each super-resolution stage's consistency, the mean in dB."""
    stages = list(drawn)
    return {
        f"{above}_consistency_db": round(
            float(np.mean(consistency(drawn[above], drawn[below]))), 2
        )
        for below, above in itertools.pairwise(stages)
    }
