"""All figures of generated pictures against a reference, with what limits them.

The result is one JSON object: the figures, both manifests, and warnings. A figure
without its warnings is not the result.
"""

from typing import Any

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.features.extractor import Extractor
from imagen_jax.metrics.frechet import frechet_distance
from imagen_jax.metrics.inception_score import NUM_SPLITS, inception_score
from imagen_jax.metrics.kernel_distance import SUBSET_SIZE, kernel_distance
from imagen_jax.metrics.pictures import warnings_of
from imagen_jax.metrics.precision_recall import precision_recall
from imagen_jax.metrics.statistics import Statistics

CUSTOMARY = 10_000
"""Pictures below which Frechet distances are not comparable with published ones."""
K = 3


def compare(
    generated: Statistics,
    reference: Statistics,
    extractor: Extractor,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the result of a comparison.

    Args:
      generated: of the pictures to judge.
      reference: of real pictures.
      extractor: that described both.
      seed: of KID's subsets, and of the rows for precision and recall.

    Returns:
      {"features": name of the network, "frechet": {"name", "value"}, "kernel":
      {"name", "value", "std", "subset_size", "num_subsets"}, "precision_recall":
      {"precision", "recall", "k", "count"} or None, "inception_score": {"value", "std",
      "num_splits"} or None, "warnings": sentences, "generated": manifest,
      "reference": manifest}.

    Raises:
      UserError: the two were made with other features, weights, resize or crop.
    """
    check_same_features(
        generated.manifest["extractor"], reference.manifest["extractor"]
    )
    kernel = kernel_distance(generated.features, reference.features, seed=seed)
    return {
        "features": generated.manifest["extractor"]["name"],
        "frechet": {
            "name": extractor.name,
            "value": frechet_distance(generated.gaussian, reference.gaussian),
        },
        "kernel": {"name": extractor.kernel_name, **kernel._asdict()},
        "precision_recall": _manifolds(generated, reference, seed),
        "inception_score": _inception_score(generated, seed),
        "warnings": find_warnings(generated, reference),
        "generated": generated.manifest,
        "reference": reference.manifest,
    }


def check_same_features(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuses a reference that was made in another way.

    Args:
      ours: identity of the extractor of the generated pictures.
      theirs: of the reference.

    Raises:
      UserError: naming each key in which the extractors differ.
    """
    differing = [
        f"{key} {theirs.get(key)!r} instead of {ours.get(key)!r}"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    ]
    if differing:
        raise UserError(
            f"the reference was made with {', '.join(differing)}; make one with the "
            "same features, weights and resize"
        )


def find_warnings(generated: Statistics, reference: Statistics) -> list[str]:
    """Returns what limits the figures, one sentence each."""
    warnings = []
    width = len(generated.gaussian.mean)
    for which, statistics in (("generated", generated), ("reference", reference)):
        count = statistics.gaussian.count
        if count <= width:
            warnings.append(
                f"{which}: {count} pictures, at least {width + 1} are needed for a "
                "covariance of full rank; the Frechet distance is biased upwards: "
                "compare it only at equal numbers, and go by the kernel distance, "
                "which is unbiased"
            )
        elif count < CUSTOMARY:
            warnings.append(
                f"{which}: {count} pictures, published figures have at least "
                f"{CUSTOMARY}; the Frechet distance is biased upwards"
            )
        if len(statistics.features) < SUBSET_SIZE:
            warnings.append(
                f"{which}: features of {len(statistics.features)} pictures, fewer than "
                f"the {SUBSET_SIZE} of a usual subset of the kernel distance; its "
                "error is larger"
            )
        warnings += [
            f"{which}: {w}" for w in warnings_of(statistics.manifest["pictures"])
        ]
    return warnings + _differences(generated.manifest, reference.manifest)


def _differences(generated: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Returns warnings of what differs between both sets of pictures."""
    ours, theirs = generated["pictures"], reference["pictures"]
    warnings = []
    if ours["sha256"] == theirs["sha256"]:
        warnings.append("generated and reference are the same files")
    if sorted(ours["formats"]) != sorted(theirs["formats"]):
        warnings.append(
            f"generated ({', '.join(ours['formats'])}) and reference "
            f"({', '.join(theirs['formats'])}) have other file formats; compression "
            "moves all of these distances"
        )
    if _sizes(ours) != _sizes(theirs):
        warnings.append(
            f"generated ({_sizes(ours)}) and reference ({_sizes(theirs)}) differ in "
            "size, so also in sharpness"
        )
    return warnings


def _sizes(pictures: dict[str, Any]) -> str:
    """Returns the size of pictures as the extractor's resize got them."""
    square = pictures["square"]
    return f"{square}x{square}" if square else ", ".join(pictures["sizes"])


def _manifolds(
    generated: Statistics, reference: Statistics, seed: int
) -> dict[str, Any] | None:
    """Returns precision and recall of equal numbers; None of too few pictures."""
    count = min(len(generated.features), len(reference.features))
    if count <= K:
        return None
    rng = np.random.default_rng(seed)
    real, made = (
        features[rng.permutation(len(features))[:count]]
        for features in (reference.features, generated.features)
    )
    return {**precision_recall(real, made, K)._asdict(), "count": count}


def _inception_score(generated: Statistics, seed: int) -> dict[str, Any] | None:
    """Returns the score; None where the network has no classes for it."""
    log_probs = generated.log_probs
    if log_probs is None:
        return None
    # Names of files are often ordered by prompt, and a split must be a fair sample.
    shuffled = log_probs[np.random.default_rng(seed).permutation(len(log_probs))]
    return inception_score(shuffled, min(NUM_SPLITS, len(shuffled)))._asdict()
