r"""`python -m imagen_jax.sample`: pictures from prompts, through the cascade.

    python -m imagen_jax.sample --demo --prompt="a panda on a blue background"
    python -m imagen_jax.sample --bundle=DIR --prompt="..." --num=16 \
        --guidance=3,1 --out=grid.png
    python -m imagen_jax.sample --workdirs=BASE,SR256 --prompts=FILE.csv --num=15 \
        --samples=DIR
    python -m imagen_jax.sample --bundle=DIR --like=DIR/sr256/00007.png --out=again.png
    python -m imagen_jax.sample --demo --held_out_of=default --num=4 \
        --sweep aug_level=0,0.1,0.2,0.3 guidance=1,3,5 --out=sweep.png

--samples writes every picture with its recipe and a manifest, and goes on where a kill
stopped it; several machines share the work by --hosts=I/N or --coordinator=auto.
--sweep scores every combination of settings: a contact sheet and a JSON beside it.
Flags and wiring only; see `imagen_jax.pipeline` and `imagen_jax.sampling.gallery`.
"""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from imagen_jax.compiled import keep_compiled
from imagen_jax.data.sources import openmoji
from imagen_jax.drawing import describe, draw, fill, repeat, spread
from imagen_jax.embedding.machine import join_hosts
from imagen_jax.errors import UserError, run_command
from imagen_jax.evaluation.sweep import best_cell, label, read_axes, sweep, write_sweep
from imagen_jax.evaluation.sweep_scores import scorers_for
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.loading import load, named_folders
from imagen_jax.parallel.distributed import add_flags
from imagen_jax.pipeline import Pipeline
from imagen_jax.prompts import Picture, Prompt, plan_pictures, read_prompts
from imagen_jax.sampler_choice import read_choice
from imagen_jax.sampling.gallery import Drawn, Gallery
from imagen_jax.sampling.png_text import check_out, read_png
from imagen_jax.sheet import repeat_sheet, write_sheet

GRID_LIMIT = 64  # pictures on a sheet
CHOICES = {  # flag -> field of SamplerConfig
    "guidance": "guidance_weight",
    "steps": "num_steps",
    "sampler": "kind",
    "aug_level": "aug_level",
    "threshold": "threshold",
}


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags."""
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.sample")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bundle", help="folder of a whole cascade")
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", help='"" draws without a prompt')
    what.add_argument("--prompts", type=Path, help=".txt, .csv, .tsv or .jsonl")
    what.add_argument("--held_out_of", help="held-out prompts of an OpenMoji set")
    what.add_argument("--like", type=Path, help="PNG of this command, drawn again")
    flag = parser.add_argument
    flag("--num", type=int, default=4, help="pictures per prompt")
    flag("--seed", type=int, default=0, help="of the first picture; see prompts.py")
    flag("--negative", default="", help="what guidance leads away from")
    flag("--second_prompt", default="", help="to blend with the prompt")
    flag("--blend", type=float, default=0.5, help="share of the second, in [0, 1]")
    flag("--guidance", help="weight, or one per stage by commas; 1 is none")
    flag("--steps", help="sampler steps, or one per stage by commas")
    flag("--sampler", help="ddpm, ddim, dpmpp_2m, unipc or heun, or one per stage")
    flag("--aug_level", help="in [0, 1], or one per stage by commas")
    flag("--threshold", help="none, static, dynamic or capped, or one per stage")
    flag("--set", action="append", default=[], metavar="KEY=V[,V per stage]")
    flag("--batch_size", type=int, default=16)
    flag("--in_turn", action="store_true", help="one stage at a time on the devices")
    flag("--embeddings", default="", help="store of the prompts' embeddings")
    flag("--encoder_weights", default="", help="folder, hub name or T5X checkpoint")
    flag("--out", type=Path, default=Path("samples.png"), help="grid, or the picture")
    flag("--samples", type=Path, help="folder for single pictures")
    flag("--sweep", nargs="+", default=[], metavar="KEY=V,V,...", help="score a grid")
    flag("--hosts", metavar="I/N", help="this is machine I (from 0) of N")
    add_flags(parser)
    return parser.parse_args()


def main() -> None:
    """Parses the command line, samples, writes the pictures."""
    keep_freed_memory()
    flags = parse_flags()
    host = read_host(flags)
    check_out(flags.out)
    options = read_options(flags)
    axes = read_axes(flags.sweep)
    pictures = [] if flags.like else list_pictures(flags)
    keep_compiled()
    folders = named_folders(flags.bundle, flags.workdirs)
    model = load(
        *folders,
        embeddings=flags.embeddings,
        encoder_weights=flags.encoder_weights,
        resident=not flags.in_turn,
        say=lambda text: tqdm.write(text, file=sys.stderr),
    )
    if flags.like:
        if not repeat_sheet(model, flags.like, flags.out):
            repeat(model, flags.like, flags.out)
        return
    options["batch_size"] = min(flags.batch_size, len(pictures))
    emoji = flags.demo or flags.held_out_of
    footer = openmoji.ATTRIBUTION if emoji else None
    if axes:
        draw_sweep(model, pictures, options, axes, flags.out, footer)
        return
    # Of many prompts a few pictures each, rather than many of the first prompts.
    shown = spread(pictures, GRID_LIMIT)
    if flags.samples:
        drawn = fill_gallery(flags, model, pictures, options, host, shown)
        if drawn is None:
            print(f"{flags.samples}: other machines have pictures to draw yet")
            return
    else:
        drawn = draw(model, [pictures[i] for i in shown], options)[model.names[-1]]
        if len(shown) < len(pictures):
            print(f"{len(shown)} of {len(pictures)} drawn; --samples=DIR draws all")
    write_sheet(flags.out, drawn, footer)
    print(f"{len(pictures)} pictures; grid: {flags.out}")


def read_host(flags: argparse.Namespace) -> tuple[int, int]:
    """Returns (this machine's number, how many share the work).

    Raises:
      UserError: a flag that is not allowed, alone or beside another.
    """
    if flags.num < 1 or flags.batch_size < 1 or not 0 <= flags.seed < 2**32:
        raise UserError(
            f"--num={flags.num} --batch_size={flags.batch_size} --seed={flags.seed}: "
            "the first two must be at least 1, the seed in [0, 2^32)"
        )
    if flags.sweep and (flags.samples or flags.like):
        raise UserError(
            "--sweep writes a sheet and its figures; give it without --samples or "
            "--like"
        )
    host = join_hosts(
        flags.hosts, flags.coordinator, flags.num_processes, flags.process_id
    )
    if not host[0] < host[1]:
        raise UserError(f"--hosts={flags.hosts}: machines are numbered from 0 to N - 1")
    if host[1] > 1 and not flags.samples:
        raise UserError("several machines share a folder; give --samples=DIR")
    return host


def fill_gallery(
    flags: argparse.Namespace,
    model: Pipeline,
    pictures: list[Picture],
    options: dict[str, Any],
    host: tuple[int, int],
    shown: list[int],
) -> list[Drawn] | None:
    """Draws what --samples lacks; returns the pictures to show, None if not all are."""
    held_out = flags.held_out_of is not None
    settings = describe(model, options)
    gallery = Gallery(flags.samples, pictures, model.names, settings, held_out=held_out)
    if not fill(model, gallery, options, host):
        return None
    return [Drawn(*read_png(gallery.file(model.names[-1], i))) for i in shown]


def draw_sweep(
    model: Pipeline,
    pictures: list[Picture],
    options: dict[str, Any],
    axes: dict[str, list[Any]],
    out: Path,
    footer: str | None,
) -> None:
    """Draws the pictures with every combination of settings, and scores them."""
    prompts, negatives, seeds = zip(*pictures, strict=True)
    plan_of = functools.partial(
        model.plan, prompts, negative=negatives, seeds=seeds, **options
    )
    cells = sweep(
        model, plan_of, axes, scorers_for(prompts), lambda cell: print(label(cell))
    )
    about = {
        "model": model.model,
        "prompts": prompts,
        "negatives": negatives,
        "seeds": seeds,
        "options": options,
    }
    columns = len(list(axes.values())[-1])
    write_sweep(out, cells, about, columns, footer=footer)
    best = best_cell(cells)
    named = "" if best is None else f"; best: {label(cells[best])}"
    print(f"{len(cells)} cells of {len(prompts)} pictures: {out}{named}")


def read_options(flags: argparse.Namespace) -> dict[str, Any]:
    """Returns what the flags choose, as `Pipeline.plan` takes it."""
    options: dict[str, Any] = {
        "second": flags.second_prompt,
        "blend": flags.blend,
    }
    texts = {name: getattr(flags, name) for name in CHOICES}
    choices = {CHOICES[name]: text for name, text in texts.items() if text is not None}
    for assignment in flags.set:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise UserError(f"--set={assignment} has no value; write --set KEY=VALUE")
        choices[name] = text
    return options | {name: read_choice(text) for name, text in choices.items()}


def list_pictures(flags: argparse.Namespace) -> list[Picture]:
    """Returns the pictures that the flags ask for."""
    if flags.prompt is not None:
        prompts = [Prompt(flags.prompt, seed=flags.seed)]
    elif flags.prompts is not None:
        prompts = read_prompts(flags.prompts)
    else:  # its order never changes, so its seeds are counted through
        captions = [p.caption for p in openmoji.pairs(flags.held_out_of) if p.held_out]
        prompts = [
            Prompt(caption, seed=(flags.seed + i * flags.num) % 2**32)
            for i, caption in enumerate(captions)
        ]
    prompts = [
        prompt._replace(negative=prompt.negative or flags.negative)
        for prompt in prompts
    ]
    return plan_pictures(prompts, flags.num, flags.seed)


if __name__ == "__main__":
    run_command(main)
