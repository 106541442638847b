"""Files of captions, metrics of a run, pictures that a stage enlarged."""

import io
import json
from pathlib import Path

import numpy as np

from imagen_jax.data.captions import read_captions
from imagen_jax.evaluation.samples import read_metrics, read_probe
from imagen_jax.evaluation.sr_report import make_sr_report
from tests.fuzzing import DROPPED, FINE, LostError, taken
from tests.fuzzing.damage import VALUES, damage_bytes, pick


def captions(rng: np.random.Generator, folder: Path) -> str:
    """A file of captions, damaged: as many come out as are there, or a sentence."""
    num = int(rng.integers(1, 30))
    made, odd = [f"picture {i}" for i in range(num)], False
    suffix = pick(rng, (".txt", ".csv", ".tsv", ".jsonl"))
    match suffix:
        case ".txt":
            lines = made
        case ".csv":
            lines = ["caption,x", *(f'"{caption}",1' for caption in made)]
        case ".tsv":
            lines = ["x\tcaption", *(f"1\t{caption}" for caption in made)]
        case _:
            lines = [json.dumps({"caption": caption}) for caption in made]
            if odd := rng.random() < 0.3:
                lines[0] = json.dumps({"caption": pick(rng, VALUES)})
    data = "\n".join(lines).encode()
    damaged = odd
    if rng.random() < 0.7:
        data, damaged = damage_bytes(rng, data), True
    path = folder / f"captions{suffix}"
    path.write_bytes(data)
    with taken(not damaged):
        found = list(read_captions(path))
    if not damaged and len(found) != num:
        raise LostError(f"{len(found)} captions of {num}")
    for caption in found:
        caption.encode()
    return FINE


def metrics(rng: np.random.Generator, folder: Path) -> str:
    """Metrics whose lines were damaged are read or counted."""
    (folder / "base").mkdir()
    num = int(rng.integers(1, 20))
    text = "".join(json.dumps({"step": i, "loss": 0.1}) + "\n" for i in range(num))
    path = folder / "base" / "metrics.jsonl"
    path.write_bytes(damage_bytes(rng, text.encode()))
    result = read_metrics(folder)
    if result is None:
        raise LostError("the file was there")
    return DROPPED if result[1] else FINE


def probe(rng: np.random.Generator, folder: Path) -> str:
    """Arrays of `upscale`, of odd shapes or damaged."""
    sizes = [int(size) for size in rng.choice([0, 1, 2, 4, 8, 16], 3)]
    odd = rng.random() < 0.4
    sound = not odd and rng.random() < 0.3
    num = int(rng.integers(0 if odd else 1, 4))
    shapes = [(num, 16, 16, 3), (num, 4, 4, 3), (num, 16, 16, 3)]
    arrays = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    if odd:
        i = int(rng.integers(3))
        arrays[i] = pick(
            rng,
            (
                np.zeros((), np.uint8),
                np.zeros((num, *sizes), np.uint8),
                arrays[i].astype(np.float32),
                np.array([b"x"]),
                np.array([object()]),
            ),
        )
    file = io.BytesIO()
    names = ("truth", "low_res", "output")
    np.savez(file, **dict(zip(names, arrays, strict=True)))
    data = file.getvalue()
    if not odd and not sound:
        data = damage_bytes(rng, data)
    (folder / "probe.npz").write_bytes(data)
    with taken(sound):
        report = make_sr_report(read_probe(folder / "probe.npz"))
    if not all(np.isfinite(v) for v in report.values() if isinstance(v, float)):
        raise LostError(f"the report is {report}")
    json.dumps(report, allow_nan=False)
    return FINE
