"""FID and the figures beside it, of a folder of pictures against a reference.

The reference is a file of `python -m imagen_jax.evaluate statistics`, or a folder of
pictures, which is described now in the same way.
"""

from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError
from imagen_jax.features.extractor import Extractor
from imagen_jax.metrics.comparison import check_same_features, compare
from imagen_jax.metrics.pictures import open_folder
from imagen_jax.metrics.statistics import Statistics, make_statistics, read_statistics


def score_folder(
    pictures: Path,
    reference: Path,
    extractor: Extractor,
    *,
    square: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the result of `imagen_jax.metrics.comparison.compare`.

    What can be wrong with the reference is found before any picture is described.

    Args:
      pictures: folder of the pictures to judge.
      reference: file of statistics, or a folder.
      extractor: describes the pictures.
      square: of both folders, see `imagen_jax.metrics.pictures.PictureFolder`; a file
        has its own.
      batch_size: pictures at a time, at least 1.
      seed: of all subsets.

    Raises:
      UserError: as the functions that it calls.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size is {batch_size}; it must be at least 1")
    if seed < 0:
        raise UserError(f"--seed is {seed}; it must be at least 0")

    def describe(folder: Path, name: str) -> Statistics:
        return make_statistics(
            open_folder(folder, square),
            extractor,
            dataset=name,
            split="all",
            batch_size=batch_size,
            seed=seed,
        )

    if reference.is_dir():
        open_folder(pictures, square)
        real = describe(reference, "reference folder")
    else:
        real = read_statistics(reference)
        check_same_features(extractor.identity, real.manifest["extractor"])
    return compare(describe(pictures, "generated"), real, extractor, seed=seed)


def format_result(result: dict[str, Any]) -> str:
    """Returns the figures of a result as lines, its warnings last."""
    kernel, manifolds = result["kernel"], result["precision_recall"]
    score = result["inception_score"]
    num_made = result["generated"]["pictures"]["count"]
    num_real = result["reference"]["pictures"]["count"]
    source = f"{result['reference']['dataset']}, {result['reference']['split']}"
    subsets = f"one subset of {kernel['subset_size']}"
    if kernel["std"] is not None:
        subsets = (
            f"std {1000 * kernel['std']:.3f} over {kernel['num_subsets']} subsets of "
            f"{kernel['subset_size']}"
        )
    lines = [
        f"{num_made} pictures against {num_real} ({source})",
        f"{result['frechet']['name']}: {result['frechet']['value']:.3f}",
        f"{kernel['name']} x 1000: {1000 * kernel['value']:.3f} ({subsets})",
    ]
    if manifolds is not None:
        lines.append(
            f"precision {manifolds['precision']:.3f}, recall {manifolds['recall']:.3f} "
            f"(k = {manifolds['k']}, {manifolds['count']} of each)"
        )
    if score is not None:
        lines.append(
            f"Inception score: {score['value']:.3f} (std {score['std']:.3f} over "
            f"{score['num_splits']} parts)"
        )
    return "\n".join(lines + [f"warning: {text}" for text in result["warnings"]])
