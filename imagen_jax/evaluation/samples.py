"""What the quickstart's report is made from: sampled pictures and a run's files.

    DIR/manifest.jsonl    one line per picture: {"file", "prompt", "seed", "held_out",
                          "stage": "base" or "sr256"}; file is relative to DIR
    RUN/sr_probe.npz      uint8 arrays truth, low_res, output of the SR stage
    RUN/base/metrics.jsonl  one line per logged step: {"step", "loss", ...}, on preview
                          steps with "preview/object_accuracy" and
                          "preview/ground_accuracy"

Everything is checked here, so that the scores can trust it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError

STAGES = ("base", "sr256")
MIN_RESOLUTION = 64  # the scorer's working size, in pixels


class Sample(NamedTuple):
    """One line of a manifest; `pair` is what its prompt asks for."""

    file: Path
    pair: openmoji.Pair
    seed: int
    stage: str


class SRProbe(NamedTuple):
    """A super-resolution stage's pictures of true low-resolution inputs."""

    truth: UInt8[np.ndarray, "b h w 3"]
    low_res: UInt8[np.ndarray, "b hl wl 3"]
    output: UInt8[np.ndarray, "b h w 3"]


def read_manifest(samples_dir: Path, set_name: str) -> list[Sample]:
    """Returns the samples that DIR/manifest.jsonl lists, in its order.

    Args:
      samples_dir: holds the manifest and the pictures.
      set_name: the OpenMoji set ("default", "core", "all") that the prompts are of.

    Raises:
      UserError: if the manifest is missing or empty, or for a line that is not as
        above, asks for something outside the set, says otherwise than the set what is
        held out, names a missing file, or repeats a (stage, prompt, seed).
    """
    path = samples_dir / "manifest.jsonl"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path} ({_cause(error)}); --samples must name a folder of "
            "sampled pictures with their manifest.jsonl"
        ) from error
    by_caption = {pair.caption: pair for pair in openmoji.pairs(set_name)}
    samples: dict[tuple[str, str, int], Sample] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        sample = _parse_line(line, where, samples_dir, by_caption, set_name)
        key = (sample.stage, sample.pair.caption, sample.seed)
        if key in samples:
            raise UserError(
                f"{where} repeats seed {sample.seed} of {sample.pair.caption!r} at "
                f"stage {sample.stage}; each picture must be listed once"
            )
        samples[key] = sample
    if not samples:
        raise UserError(f"{path} lists no picture; sample some first")
    return list(samples.values())


def _parse_line(
    line: str,
    where: str,
    samples_dir: Path,
    by_caption: dict[str, openmoji.Pair],
    set_name: str,
) -> Sample:
    """Returns one checked line of a manifest; `where` names it in errors."""
    entry = _parse_object(line, where)
    kinds = {"file": str, "prompt": str, "seed": int, "held_out": bool, "stage": str}
    for key, kind in kinds.items():
        if type(entry.get(key)) is not kind:
            raise UserError(
                f"{where} has {key} = {entry.get(key)!r}; it must be a {kind.__name__}"
            )
    if entry["stage"] not in STAGES:
        raise UserError(
            f"{where} has stage {entry['stage']!r}; it must be {' or '.join(STAGES)}"
        )
    pair = by_caption.get(entry["prompt"])
    if pair is None:
        raise UserError(
            f"{where} has the prompt {entry['prompt']!r}, which is not in the OpenMoji "
            f"set {set_name!r}; score only prompts like {next(iter(by_caption))!r}"
        )
    if pair.held_out != entry["held_out"]:
        raise UserError(
            f"{where} says held_out = {entry['held_out']} of {pair.caption!r}, but the "
            f"set {set_name!r} says {pair.held_out}; train and sample with one set"
        )
    file = samples_dir / entry["file"]
    if not file.is_file():
        raise UserError(
            f"{where} names {entry['file']}, which does not exist in {samples_dir}; "
            "sample it again or take out the line"
        )
    return Sample(file, pair, entry["seed"], entry["stage"])


def read_pictures(samples: Sequence[Sample]) -> UInt8[np.ndarray, "b s s 3"]:
    """Returns the samples' pictures, which must be square and of one size.

    Raises:
      UserError: for an unreadable picture or one of another size.
    """
    pictures = []
    for sample in samples:
        try:
            picture = decode(sample.file.read_bytes())
        except (OSError, BadRecordError) as error:
            raise UserError(
                f"cannot read the picture {sample.file} ({_cause(error)}); sample it "
                "again"
            ) from error
        height, width, _ = picture.shape
        size = len(pictures[0]) if pictures else max(height, MIN_RESOLUTION)
        if (height, width) != (size, size):
            raise UserError(
                f"{sample.file} has {width} x {height} pixels; the pictures of stage "
                f"{sample.stage} must all be square, of one size and at least "
                f"{MIN_RESOLUTION} pixels wide"
            )
        pictures.append(picture)
    return np.stack(pictures)


def read_sr_probe(run_dir: Path) -> SRProbe | None:
    """Returns RUN/sr_probe.npz, or None if the run has none.

    Raises:
      UserError: if the file is damaged or its arrays do not belong together.
    """
    path = run_dir / "sr_probe.npz"
    return read_probe(path) if path.exists() else None


def read_probe(path: Path) -> SRProbe:
    """Returns what `python -m imagen_jax.upscale --probe=FILE` has written.

    Raises:
      UserError: if it cannot be read or its arrays do not belong together.
    """
    try:
        with np.load(path) as arrays:
            probe = SRProbe(*(arrays[name] for name in SRProbe._fields))
    except Exception as error:  # numpy and zipfile raise many kinds on damaged files
        raise UserError(
            f"cannot read {path} ({_cause(error)}); it must hold the arrays "
            f"{', '.join(SRProbe._fields)}: sample again"
        ) from error
    found = [f"{array.dtype}{list(array.shape)}" for array in probe]
    if not _belong_together(probe):
        raise UserError(
            f"{path} holds truth, low_res, output as {', '.join(found)}; they must be "
            "uint8 [b s s 3], [b s/f s/f 3] and [b s s 3] for an integer factor f: "
            "sample again"
        )
    return probe


def _belong_together(probe: SRProbe) -> bool:
    if any(a.ndim != 4 or a.size == 0 or a.dtype != np.uint8 for a in probe):
        return False
    b, size, low_size = len(probe.truth), probe.truth.shape[2], probe.low_res.shape[2]
    shapes = ((b, size, size, 3), (b, low_size, low_size, 3), (b, size, size, 3))
    return [a.shape for a in probe] == list(shapes) and size % low_size == 0


def read_metrics(
    run_dir: Path, stage: str = "base"
) -> tuple[dict[int, dict[str, Any]], int] | None:
    """Returns a stage's metrics by step, and the number of unreadable lines.

    Of a step that was logged twice (a resumed run repeats some) the last counts. A
    line torn by a kill is counted, not fatal: a run must not lose its report to it.

    Returns:
      None if RUN/STAGE/metrics.jsonl does not exist.
    """
    path = run_dir / stage / "metrics.jsonl"
    if not path.exists():
        return None
    by_step: dict[int, dict[str, Any]] = {}
    num_bad = 0
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = _parse_object(line, str(path))
            by_step.setdefault(int(entry["step"]), {}).update(entry)
        except (UserError, KeyError, TypeError, ValueError):
            num_bad += 1
    return by_step, num_bad


def _parse_object(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where} is not JSON ({error}); each line must be one JSON object"
        ) from error
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a JSON object; each line must be one")
    return entry


def _cause(error: Exception) -> str:
    """Returns an error's own words on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())
