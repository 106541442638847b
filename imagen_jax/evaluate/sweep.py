r"""Curves over guidance weights: alignment against distance, for each thresholding.

    python -m imagen_jax.evaluate sweep --demo --resolution=64 --held_out_of=default \
        --num=16 threshold=none,static,dynamic guidance=1,1.5,2,3,4,6,10,15 --out=DIR
    python -m imagen_jax.evaluate sweep --bundle=DIR --prompts=FILE --num=4 \
        --features=inception --features_weights=FILE --reference=real.npz \
        guidance=1,2,4,8 --out=DIR

Every cell draws the same prompts and seeds. The last axis runs along a curve; each
combination of the others is a curve. Prompts of the quickstart's set are scored by what
is drawn, and compared with real drawings of the same prompts; others need --reference,
a file of `python -m imagen_jax.evaluate statistics` at the pictures' size. A cell is
kept in OUT/cells as soon as it is known, so a killed sweep goes on. --out gets
sweep.png, sweep.json, sweep.csv, curve.png and sweep.md.
"""

import argparse
import functools
from pathlib import Path

import jax

from imagen_jax.compiled import keep_compiled
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.evaluate.cascade_flags import add_cascade, open_cascade, read_settings
from imagen_jax.evaluation.real_pictures import write_real_pictures
from imagen_jax.evaluation.sweep import Cell, label, read_axes, sweep, write_sweep
from imagen_jax.evaluation.sweep_curve import choose_figures
from imagen_jax.evaluation.sweep_report import write_curves
from imagen_jax.evaluation.sweep_scoring import open_scoring
from imagen_jax.evaluation.sweep_store import CellStore
from imagen_jax.features.clip import open_clip
from imagen_jax.features.extractor import Extractor
from imagen_jax.features.opening import NAMES, open_extractor
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.metrics.pictures import open_folder
from imagen_jax.metrics.statistics import (
    Statistics,
    make_statistics,
    read_statistics,
    write_statistics,
)
from imagen_jax.optional import import_optional
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.prompts import Picture, Prompt, plan_pictures, read_prompts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    flag = parser.add_argument
    flag("axes", nargs="+", metavar="KEY=V,V,...", help="settings and their values")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompts", type=Path, help=".txt, .csv, .tsv or .jsonl")
    what.add_argument("--held_out_of", help="held-out prompts of an OpenMoji set")
    flag("--num", type=int, default=16, help="pictures per prompt")
    flag("--seed", type=int, default=0, help="of the pictures")
    flag("--features", choices=NAMES, default="efficientnet-lite0")
    flag("--features_weights", "--weights", help="as `evaluate fid` takes --weights")
    flag("--reference", type=Path, help="file of `evaluate statistics`")
    flag("--clip_weights", help="FOLDER or OWNER/NAME of a CLIP, for the CLIP score")
    flag("--num_real", type=int, default=1024, help="real drawings without --reference")
    flag("--x", help="figure on the plot's x axis (default: the first alignment)")
    flag("--y", help="figure on the plot's y axis (default: the first distance)")
    flag("--out", type=Path, required=True, help="folder")
    flag("--cells", type=Path, help="folder of finished cells (default: OUT/cells)")
    add_cascade(parser, None)


def run(args: argparse.Namespace) -> None:
    """Draws and scores the missing cells, writes what `sweep_report` says."""
    import_optional("matplotlib", "eval")  # missed now, not when all cells are drawn
    keep_freed_memory()
    axes, pictures = read_axes(args.axes), _pictures(args)
    options = read_settings(args)
    options["batch_size"] = min(options["batch_size"], len(pictures))
    keep_compiled()
    model = open_cascade(args)
    mesh = make_mesh(devices=jax.local_devices())
    extractor = open_extractor(args.features, args.features_weights, mesh)
    clip = open_clip(args.clip_weights, mesh) if args.clip_weights else None
    prompts, negatives, seeds = zip(*pictures, strict=True)
    resolution = model.stages[-1].stage.config.resolution
    kept = args.cells or args.out / "cells"
    reference = _reference(args, kept, extractor, prompts, resolution)
    scoring = open_scoring(prompts, resolution, [(extractor, reference)], clip)
    about = {
        "model": model.model,
        "prompts": prompts,
        "negatives": negatives,
        "seeds": seeds,
        "options": options,
        **scoring.about,
    }
    store = CellStore(kept, about)

    def report(cell: Cell) -> None:
        store.write(cell)
        choose_figures(cell, args.x, args.y)  # a wrong name is told after one cell
        print(f"{label(cell)}; {cell.cpu_seconds:.0f} CPU-s", flush=True)

    plan_of = functools.partial(
        model.plan, prompts, seeds=seeds, **{"negative": negatives, **options}
    )
    cells = sweep(model, plan_of, axes, scoring.scorers, report, store.read)
    figures = choose_figures(cells[0], args.x, args.y)
    emoji = args.demo or args.held_out_of
    columns = len(list(axes.values())[-1])
    footer = openmoji.ATTRIBUTION if emoji else None
    write_sweep(args.out / "sweep.png", cells, about, columns, footer=footer)
    print(write_curves(args.out, cells, figures, scoring.labels, scoring.notes))
    spent = sum(cell.cpu_seconds for cell in cells)
    print(
        f"{len(cells)} cells of {len(prompts)} pictures: {spent / 60:.1f} CPU-minutes"
    )


def _pictures(args: argparse.Namespace) -> list[Picture]:
    """Returns what every cell draws."""
    for name in ("num", "num_real"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name}={getattr(args, name)}; it must be at least 1")
    if args.prompts is not None:
        prompts = read_prompts(args.prompts)
    else:
        pairs = openmoji.pairs(args.held_out_of)
        prompts = [Prompt(pair.caption) for pair in pairs if pair.held_out]
    return plan_pictures(prompts, args.num, args.seed)


def _reference(
    args: argparse.Namespace,
    kept: Path,
    extractor: Extractor,
    prompts: tuple[str, ...],
    resolution: int,
) -> Statistics:
    """Returns the statistics of the file, or of drawings of the prompts."""
    if args.reference is not None:
        return read_statistics(args.reference)
    name = f"real_{args.num_real}_{resolution}"
    path = kept / f"{name}_{args.features}.npz"
    if path.exists():
        return read_statistics(path)
    real = write_real_pictures(kept / name, prompts, args.num_real, resolution)
    made = make_statistics(
        open_folder(real), extractor, dataset="OpenMoji on grounds", split="reference"
    )
    write_statistics(path, made)
    return made
