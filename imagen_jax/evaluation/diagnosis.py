"""Where a cascade loses quality: each stage by itself, and what it inherits.

Every stage draws the captions of the same held-out pictures: the base from the text, a
super-resolution stage once from true low-res (box averages) and once from what the
stages below have drawn. With q a figure of the pictures, more being better,

  own       = q(true pictures) - q(stage, given the text or true low-res)
  inherited = q(stage, given true low-res) - q(stage, given generated low-res)

`own` is the stage's fault alone, `inherited` that of the stages below as it shows in
this one. q is the share of pictures whose object is right (times 100) where the
captions are of the quickstart's set, else minus the spectrum's distance
(`imagen_jax.evaluation.spectrum`). `imagen_jax.evaluation.diagnosis_verdict` reckons
the losses and their intervals.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.data.images import box_downsample
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.prompt_score import score_pictures
from imagen_jax.evaluation.spectrum import spectrum_distances, true_distances
from imagen_jax.evaluation.super_resolution import consistency, psnr, upsample_bicubic
from imagen_jax.sampling.colour import colour_report

SET = "default"  # of the quickstart
OBJECT, SPECTRUM = "object_accuracy", "spectrum_db"
TRUTH, TRUE, GENERATED = "the true pictures", "true low-res", "generated low-res"

Values = dict[str, Float[np.ndarray, " b"]]  # one of each picture, by the figure's name
Pictures = UInt8[np.ndarray, "b h w 3"]
LowRes = UInt8[np.ndarray, "b hl wl 3"]


class DiagnosedStage(NamedTuple):
    """A stage as the diagnosis sees it.

    Attributes:
      name: of the stage.
      resolution: side of its pictures.
      draw: low-res pictures (None for the base) -> its pictures, one per caption.
      swapped: draws with another checkpoint; None where there is none.
    """

    name: str
    resolution: int
    draw: Callable[[LowRes | None], Pictures]
    swapped: Callable[[LowRes | None], Pictures] | None = None


class Row(NamedTuple):
    """Pictures of one stage from one input.

    Attributes:
      stage: its name.
      checkpoint: "own", "swapped" or, for the true pictures, "none".
      feed: "text", "true low-res", "generated low-res", "low-res of the swapped NAME"
        or "the true pictures".
      values: of each picture.
      shown: the first picture.
    """

    stage: str
    checkpoint: str
    feed: str
    values: Values
    shown: UInt8[np.ndarray, "h w 3"]


def diagnose(
    stages: Sequence[DiagnosedStage],
    truth: Pictures,
    captions: Sequence[str],
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Returns the rows of the table, stage after stage.

    Args:
      stages: from the base up; each takes the resolution of the one before it.
      truth: held-out pictures at the last stage's resolution, at least 2.
      captions: theirs.
      say: called with what is drawn next.
    """
    figures = _Figures(captions)
    rows: list[Row] = []
    true_below: Pictures | None = None
    generated: dict[str, Pictures | None] = {"text": None}  # by the feed's name
    for stage in stages:
        factor = truth.shape[1] // stage.resolution
        real = np.stack([box_downsample(picture, factor) for picture in truth])
        feeds = generated
        if true_below is not None:
            feeds = {TRUE: true_below, **generated}
        values = figures.of_truth(real)
        rows.append(Row(stage.name, "none", TRUTH, values, real[0]))
        drawn: dict[str, Pictures | None] = {}
        for feed, low_res in feeds.items():
            for checkpoint in ("own", "swapped"):
                draw = stage.draw if checkpoint == "own" else stage.swapped
                if draw is None:
                    continue
                say(f"{stage.name}, {checkpoint} checkpoint, from {feed}")
                pictures = draw(low_res)
                values = figures.of(pictures, real, low_res, feed)
                rows.append(Row(stage.name, checkpoint, feed, values, pictures[0]))
                if feed != TRUE:
                    drawn[_next_feed(stage.name, checkpoint, feed)] = pictures
        true_below, generated = real, drawn
    return rows


def _next_feed(stage: str, checkpoint: str, feed: str) -> str:
    """Returns what the next stage calls pictures of this origin."""
    if checkpoint == "swapped":
        return f"low-res of the swapped {stage}"
    return feed if feed.startswith("low-res of") else GENERATED


class _Figures:
    """Measures pictures of the captions."""

    def __init__(self, captions: Sequence[str]):
        by_caption = {pair.caption: pair for pair in openmoji.pairs(SET)}
        self._pairs = [by_caption.get(caption) for caption in captions]
        self._scorer = EmojiScorer(SET) if all(self._pairs) else None

    def of_truth(self, real: Pictures) -> Values:
        """Returns figures of true pictures, each against the other ones."""
        return {SPECTRUM: true_distances(real), **self._accuracy(real)}

    def of(
        self, pictures: Pictures, real: Pictures, low_res: LowRes | None, feed: str
    ) -> Values:
        """Returns figures of a stage's pictures, made from `low_res`."""
        values = {SPECTRUM: spectrum_distances(pictures, real)}
        if low_res is not None:
            values["consistency_db"] = consistency(pictures, low_res)
            values["colour_levels"] = np.array(
                [
                    colour_report(one, below).mean
                    for one, below in zip(pictures, low_res, strict=True)
                ]
            )
            if feed == TRUE:
                values["psnr_db"] = psnr(pictures, real)
                bicubic = psnr(upsample_bicubic(low_res, pictures.shape[1]), real)
                values["gain_db"] = values["psnr_db"] - bicubic
        return values | self._accuracy(pictures)

    def _accuracy(self, pictures: Pictures) -> Values:
        if self._scorer is None:
            return {}
        pairs = [pair for pair in self._pairs if pair is not None]
        score = score_pictures(self._scorer, pictures, pairs)
        return {
            OBJECT: 100.0 * score.object_right,
            "ground_accuracy": 100.0 * score.ground_right,
        }
