"""Zero-shot FID on COCO: generated pictures against the whole validation set.

The protocol is the module docstring of `imagen_jax.evaluation.coco`. A result is the
comparison of `imagen_jax.metrics.comparison` (both manifests and all warnings are in
it), how the captions were drawn, and how it departs from the paper's protocol.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError
from imagen_jax.evaluation.coco import Caption, CocoSet
from imagen_jax.evaluation.paper_tables import Row, format_table_1, protocol_notes
from imagen_jax.features.extractor import Extractor
from imagen_jax.metrics.comparison import check_same_features, compare
from imagen_jax.metrics.pictures import PictureFolder, open_folder
from imagen_jax.metrics.statistics import (
    Statistics,
    make_statistics,
    read_statistics,
    write_statistics,
)
from imagen_jax.prompts import Picture, Prompt, plan_pictures

FID = "FID"  # the only name of `Extractor.name` that Table 1's figures have


def plan_captions(drawn: Sequence[Caption], seed: int) -> list[Picture]:
    """Returns the picture of each caption; its noise's seed follows from its text."""
    return plan_pictures([Prompt(caption.text) for caption in drawn], 1, seed)


def read_reference(
    path: Path, coco: CocoSet, extractor: Extractor, resolution: int
) -> Statistics | None:
    """Returns the statistics of the validation set in a file, None if there is none.

    Args:
      path: of the file.
      coco: the set.
      extractor: that describes the generated pictures.
      resolution: of the pictures.

    Raises:
      UserError: it was made with other features, or of other pictures.
    """
    if not path.exists():
        return None
    held = read_statistics(path)
    check_same_features(extractor.identity, held.manifest["extractor"])
    pictures = held.manifest["pictures"]
    count = len(coco.pictures)
    if (pictures["count"], pictures["square"]) != (count, resolution):
        raise UserError(
            f"--reference={path} is of {pictures['count']} pictures, their squares "
            f"resized to {pictures['square']} pixels; needed are {count} and "
            f"{resolution}: give another path, and it is made anew"
        )
    return held


def make_reference(
    path: Path, coco: CocoSet, extractor: Extractor, resolution: int
) -> Statistics:
    """Returns the statistics of the whole validation set, and writes them."""
    made = make_statistics(
        _pictures(coco, resolution),
        extractor,
        dataset=f"COCO {coco.year}",
        split="val",
    )
    write_statistics(path, made)
    return made


def make_coco_report(
    samples: Path,
    reference: Statistics,
    extractor: Extractor,
    *,
    row: Mapping[str, Any],
    resolution: int,
    year: int,
    draw: Mapping[str, Any],
    drawn_with: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the result, JSON.

    Args:
      samples: folder of the generated pictures, one a caption.
      reference: of the validation set.
      extractor: that described it.
      row: "model" and "zero_shot" of the new row.
      resolution: of the pictures.
      year: of the set.
      draw: how the captions were drawn; see `coco.describe_draw`.
      drawn_with: model and settings, as `drawing.describe` has them.

    Raises:
      UserError: a picture that cannot be read.
    """
    generated = make_statistics(
        open_folder(samples, resolution), extractor, dataset="samples", split="all"
    )
    result = compare(generated, reference, extractor)
    count = generated.manifest["pictures"]["count"]
    return {
        "row": {**row, "fid": result["frechet"]["value"]},
        "protocol": {"count": count, "resolution": resolution, "year": year},
        "departures": protocol_notes(count, resolution, year),
        "captions": dict(draw),
        "drawn_with": dict(drawn_with),
        **result,
    }


def format_coco_report(report: Mapping[str, Any]) -> str:
    """Returns the paper's Table 1 with the report's row, and what limits it."""
    name, protocol = report["frechet"]["name"], report["protocol"]
    figure = f"{name}, {report['features']} features, {protocol['count']:,} pictures"
    kernel = report["kernel"]
    notes = [
        *report["departures"],
        f"{kernel['name']} x 1000: {1000 * kernel['value']:.2f}",
        *(f"warning: {warning}" for warning in report["warnings"]),
    ]
    return format_table_1(Row(**report["row"]), figure, name == FID, notes)


def _pictures(coco: CocoSet, resolution: int) -> PictureFolder:
    return PictureFolder(coco.pictures[0].parent, coco.pictures, resolution)
