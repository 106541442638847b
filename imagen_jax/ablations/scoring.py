"""Figures of an arm: of each of its pictures, and of the later half of its training."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.prompt_score import score_pictures

SET = "default"  # of the quickstart
FIGURES = {  # name -> whether more is better
    "object_accuracy": True,
    "ground_accuracy": True,
    "saturated_share": False,
    "chroma": False,
}
TRAINING_FIGURES = {"loss": False, "step_sec": False}
"""As the run logs them. All arms see the same pictures with the same noise."""


def score_arm(
    pictures: UInt8[np.ndarray, "b s s 3"], pairs: Sequence[openmoji.Pair]
) -> dict[str, Float[np.ndarray, " b"]]:
    """Returns `FIGURES` of each picture, all in [0, 1].

    "saturated_share" is the share of channel values at 0 or 255; "chroma" the mean over
    pixels of the largest channel less the smallest one.
    """
    score = score_pictures(EmojiScorer(SET), pictures, pairs)
    values = pictures.astype(np.float64) / 255.0
    return {
        "object_accuracy": score.object_right.astype(np.float64),
        "ground_accuracy": score.ground_right.astype(np.float64),
        "saturated_share": np.isin(pictures, (0, 255)).mean(axis=(1, 2, 3)),
        "chroma": (values.max(axis=-1) - values.min(axis=-1)).mean(axis=(1, 2)),
    }


def score_training(workdir: Path) -> dict[str, Float[np.ndarray, " points"]]:
    """Returns `TRAINING_FIGURES` of each logged step in the later half of a run."""
    lines = (workdir / "metrics.jsonl").read_text("utf-8").splitlines()
    logged = [entry for entry in map(json.loads, lines) if "loss" in entry]
    late = [entry for entry in logged if 2 * entry["step"] > logged[-1]["step"]]
    return {
        name: np.array([entry[name] for entry in late]) for name in TRAINING_FIGURES
    }
