"""CLIP score of a folder of pictures with their texts, with all that it depends on."""

from collections.abc import Sequence
from typing import Any

from imagen_jax.errors import UserError
from imagen_jax.evaluation.captioned import Captioned, read_picture
from imagen_jax.evaluation.intervals import mean_interval
from imagen_jax.features.clip import Clip
from imagen_jax.metrics.clip_score import ClipScores, clip_scores

NAMES = {
    "cosine": "mean cosine",
    "times_100": "CLIP score, 100 x cosine",
    "clipscore": "CLIPScore, 2.5 x max(cosine, 0)",
}


def make_clip_report(
    clip: Clip, captioned: Sequence[Captioned], prefix: str = "", batch_size: int = 32
) -> dict[str, Any]:
    """Returns the report, JSON.

    Args:
      clip: the model.
      captioned: pictures with their texts.
      prefix: put before each text.
      batch_size: pictures at a time.

    Returns:
      {"clip": identity, "prefix", "count", "scores": {scale: {"mean", "low", "high"}},
      "warnings": sentences, "pictures": [{"file", "text", "cosine"}]}; low and high are
      the 95 % interval of the mean, None of one picture.

    Raises:
      UserError: no picture, an empty text, or a picture that cannot be read.
    """
    if not captioned:
        raise UserError("there is no picture to score; sample some first")
    if empty := [each.file.name for each in captioned if not each.text.strip()]:
        raise UserError(
            f"{len(empty)} pictures have no text (the first is {empty[0]}); a CLIP "
            "score needs one for each: leave out pictures of the empty prompt"
        )
    before = clip.num_truncated()
    pictures = (read_picture(each.file) for each in captioned)
    texts = [each.text for each in captioned]
    scores = clip_scores(clip, pictures, texts, prefix, batch_size)
    return {
        "clip": clip.identity,
        "prefix": prefix,
        "count": len(texts),
        "scores": _means(scores),
        "warnings": _warnings(len(texts), clip.num_truncated() - before),
        "pictures": [
            {"file": each.file.name, "text": each.text, "cosine": round(float(c), 6)}
            for each, c in zip(captioned, scores.cosine, strict=True)
        ],
    }


def format_clip_report(report: dict[str, Any]) -> str:
    """Returns the report in lines."""
    clip = report["clip"]
    lines = [
        f"{report['count']} pictures, {clip['name']} ({clip['weights']}, sha256 "
        f"{clip['weights_sha256'][:12]}), prefix {report['prefix']!r}"
    ]
    for scale, name in NAMES.items():
        score = report["scores"][scale]
        interval = ""
        if score["low"] is not None:
            interval = f" ({score['low']:.4f} to {score['high']:.4f})"
        lines.append(f"{name}: {score['mean']:.4f}{interval}")
    return "\n".join([*lines, *(f"warning: {text}" for text in report["warnings"])])


def _means(scores: ClipScores) -> dict[str, dict[str, float | None]]:
    means = {}
    for scale in NAMES:
        values = getattr(scores, scale).astype("float64")
        ends = (None, None)
        if len(values) > 1:
            ends = tuple(round(end, 6) for end in mean_interval(values))
        mean = round(float(values.mean()), 6)
        means[scale] = {"mean": mean, "low": ends[0], "high": ends[1]}
    return means


def _warnings(count: int, num_truncated: int) -> list[str]:
    warnings = []
    if num_truncated:
        warnings.append(
            f"{num_truncated} distinct texts are longer than the model reads; their "
            "ends were left out"
        )
    if count == 1:
        warnings.append("one picture has no interval")
    return warnings
