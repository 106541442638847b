r"""Says which stage of a cascade loses most quality.

    python -m imagen_jax.evaluate diagnose --workdirs=BASE,SR256 \
        --source=tfds:DIR:held_out --num=32 --out=DIR

Each super-resolution stage is fed with true low-res pictures and with generated ones;
--swap=WORKDIR puts another run's checkpoint in the place of its stage. DIR gets
diagnosis.json, diagnosis.md and a sheet of pictures, diagnosis.png.
"""

import argparse
from pathlib import Path

from imagen_jax.data.probe import Probe, read_probe
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError
from imagen_jax.evaluate.output import write_json, write_text
from imagen_jax.evaluation.diagnosis import (
    DiagnosedStage,
    Row,
    diagnose,
)
from imagen_jax.evaluation.diagnosis_table import diagnosis_record, format_diagnosis
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.stage_drawer import stage_drawer, with_swapped
from imagen_jax.loading import load
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.recipe import versions

MIN_PICTURES = 2  # an interval needs them
FEW_PICTURES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdirs", help="of the stages, from the base up")
    where.add_argument("--bundle", help="of the whole cascade")
    parser.add_argument("--swap", help="workdir or bundle of another run of one stage")
    parser.add_argument("--source", required=True, help="held-out: as key data.source")
    parser.add_argument("--num", type=int, default=32, help="pictures, evenly spaced")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--store", default="", help="embeddings; else the encoder runs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def run(args: argparse.Namespace) -> None:
    """Draws, measures, writes the table and prints it."""
    if args.num < MIN_PICTURES or args.batch_size < 1:
        raise UserError(
            f"--num={args.num} --batch_size={args.batch_size}: give at least "
            f"{MIN_PICTURES} pictures, whose spread is measured, and a batch of 1"
        )
    folders = [args.bundle] if args.bundle else args.workdirs.split(",")
    model = load(*folders, embeddings=args.store, say=print)
    swapped, place = with_swapped(model, args.swap) if args.swap else (None, None)
    warnings: list[str] = []
    probe = _read_truth(args, model, warnings)
    num = len(probe.captions)
    plan = model.plan(
        probe.captions,
        seeds=[args.seed + i for i in range(num)],
        batch_size=min(args.batch_size, num),
    )
    stages = [
        DiagnosedStage(
            loaded.stage.config.name,
            loaded.stage.config.resolution,
            stage_drawer(model, plan, i),
            stage_drawer(swapped, plan, i) if swapped and place == i else None,
        )
        for i, loaded in enumerate(model.stages)
    ]
    rows = diagnose(stages, probe.image, probe.captions, print)
    about = {
        "source": args.source,
        "num": num,
        "seeds": [args.seed, args.seed + num - 1],
        "model": model.model,
        "swap": swapped.model if swapped else None,
        "versions": versions(),
        "warnings": warnings,
    }
    record = diagnosis_record(rows, about)
    text = format_diagnosis(record, warnings)
    write_json(args.out / "diagnosis.json", record)
    write_text(args.out / "diagnosis.md", text)
    _write_sheet(args.out / "diagnosis.png", rows, probe.captions[0])
    print(text)


def _read_truth(
    args: argparse.Namespace, model: Pipeline, warnings: list[str]
) -> Probe:
    """Returns held-out pictures at the last resolution; adds what to know of them."""
    source = open_source(args.source)
    num = min(args.num, len(source))
    if num < MIN_PICTURES:
        raise UserError(
            f"--source={args.source} has {len(source)} pictures; give one with at "
            f"least {MIN_PICTURES}"
        )
    if num < args.num:
        warnings.append(f"the source has only {num} pictures, {args.num} were asked.")
    if num < FEW_PICTURES:
        warnings.append(f"{num} pictures are few: the intervals are only rough.")
    try:
        probe = read_probe(source, num, model.stages[-1].stage.config.resolution)
    except BadRecordError as error:
        raise UserError(f"--source={args.source}: {error}; mend or drop it") from error
    if repeated := num - len({picture.tobytes() for picture in probe.image}):
        warnings.append(
            f"{repeated} pictures occur more than once: the intervals are too narrow."
        )
    trained = {loaded.stage.config.data.source for loaded in model.stages}
    if args.source in trained:
        warnings.append("a stage was trained on this source: losses look too small.")
    return probe


def _write_sheet(path: Path, rows: list[Row], caption: str) -> None:
    """Writes what each row's first picture looks like."""
    words = [f"{row.stage}, {row.checkpoint}: {row.feed}" for row in rows]
    title = f"Of the first caption: {caption}"
    write_grid(path, [row.shown for row in rows], words, 3, cell=256, title=title)
