"""All figures of a sweep with curves, and what must be known of them.

Alignment: what is drawn, of the quickstart's prompts; CLIP score, if there is a CLIP.
Distance: of each network that describes pictures, from a reference.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from imagen_jax.evaluation.distance_scores import figure_name, score_distances
from imagen_jax.evaluation.emoji_score import WORK_SIZE
from imagen_jax.evaluation.sweep import Scorer
from imagen_jax.evaluation.sweep_scores import (
    score_clip,
    score_consistency,
    scorers_for,
)
from imagen_jax.features.clip import Clip
from imagen_jax.features.extractor import Extractor
from imagen_jax.metrics.statistics import Statistics


class Scoring(NamedTuple):
    """How cells are scored.

    Attributes:
      scorers: in the order of their figures.
      labels: what is printed instead of a figure's name.
      about: networks and references, JSON.
      notes: a sentence each.
    """

    scorers: list[Scorer]
    labels: dict[str, str]
    about: dict[str, Any]
    notes: list[str]


def open_scoring(
    prompts: Sequence[str],
    resolution: int,
    networks: Sequence[tuple[Extractor, Statistics]],
    clip: Clip | None = None,
) -> Scoring:
    """Returns the figures that can be had.

    Args:
      prompts: of a cell, one a picture.
      resolution: of the pictures.
      networks: with the reference that each described.
      clip: for the CLIP score, if there is one.

    Raises:
      UserError: a reference was made with other features.
    """
    count = len(prompts)
    # Smaller pictures do not show what is drawn well enough to tell.
    scorers: list[Scorer] = [score_consistency]
    if resolution >= WORK_SIZE:
        scorers = scorers_for(prompts)
    labels: dict[str, str] = {}
    about: dict[str, Any] = {}
    if clip is not None:
        scorers.append(score_clip(clip, prompts))
        name = clip.identity["name"]
        labels["clip_score"] = f"CLIP score, 100 x cosine, {name}, no prefix"
        about["clip"] = clip.identity
    notes = [
        f"{count} pictures a point; a share of so many has a 95 % interval of at most "
        f"+-{98 / count**0.5:.1f} points."
    ]
    for extractor, reference in networks:
        scorers.append(score_distances(extractor, reference))
        frechet, kernel = map(figure_name, (extractor.name, extractor.kernel_name))
        real = reference.gaussian.count
        labels[frechet] = f"{extractor.name}, {count} against {real} pictures"
        labels[f"{kernel}_x1000"] = f"{extractor.kernel_name} x 1000"
        notes.append(
            f"{extractor.name} of {count} pictures against {real} real ones is biased "
            "upwards: compare it only with equal numbers. The kernel distance is "
            "unbiased; after ± stands its standard error."
        )
        pictures = reference.manifest["pictures"]
        sizes = sorted(pictures["sizes"])
        if pictures["crop"] == "none" and sizes != [f"{resolution}x{resolution}"]:
            notes.append(
                f"The real pictures have {', '.join(sizes)} pixels, the samples "
                f"{resolution}x{resolution}: the distance shows the size too."
            )
    about["references"] = [reference.manifest for _, reference in networks]
    return Scoring(scorers, labels, about, notes)
