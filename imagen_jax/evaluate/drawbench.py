r"""Draws a list of prompts by category (DrawBench, PartiPrompts), beside other systems.

    python -m imagen_jax.evaluate drawbench --prompts=LIST.csv --bundle=DIR --out=DIR
    python -m imagen_jax.evaluate drawbench --prompts=https://HOST/LIST.tsv --demo \
        --system GLIDE=DIR --system "DALL-E 2=DIR" --out=DIR

--prompts has the columns prompt,category; no list is part of this package. Each
--system is a folder of pictures of another system; `imagen_jax.evaluation.systems` says
how they are named. --out gets samples/ (gone on with after a kill), a sheet of each
category with a column of each system, and drawbench.json. With --study=A,B it also
gets study/, ready for `python -m imagen_jax.raters` (docs/raters.md).
"""

import argparse
from pathlib import Path

from imagen_jax.compiled import keep_compiled
from imagen_jax.data.sources import openmoji
from imagen_jax.drawing import describe, fill
from imagen_jax.errors import UserError
from imagen_jax.evaluate.cascade_flags import (
    add_cascade,
    has_cascade,
    open_cascade,
    read_settings,
)
from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.prompt_lists import PromptList, read_prompt_list
from imagen_jax.evaluation.study_folder import write_study
from imagen_jax.evaluation.systems import (
    describe_systems,
    read_system,
    write_category_sheets,
)
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.prompts import Prompt, plan_pictures
from imagen_jax.raters.study import SET_SIZE
from imagen_jax.sampling.gallery import Gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    flag = parser.add_argument
    flag("--prompts", required=True, help="CSV or TSV with prompt,category, or its URL")
    flag("--num", type=int, default=8, help="pictures of a prompt")
    flag("--seed", type=int, default=0, help="of the pictures")
    flag("--name", default="imagen_jax", help="of what is drawn here")
    flag("--system", action="append", default=[], metavar="NAME=FOLDER", help="another")
    flag("--study", metavar="A,B", help="two systems for raters to compare")
    flag("--out", type=Path, required=True, help="folder")
    add_cascade(parser, None, required=False)


def run(args: argparse.Namespace) -> None:
    """Draws what is missing, reads the other systems, writes the sheets."""
    if args.num < 1:
        raise UserError(f"--num={args.num}; it must be at least 1")
    folders = dict(_pair(text) for text in args.system)
    if not folders and not has_cascade(args):
        raise UserError(
            "there is nothing to show; give --bundle, --workdirs or --demo, or another "
            "system by --system NAME=FOLDER"
        )
    names = [*([args.name] if has_cascade(args) else []), *folders]
    if len(names) != len(args.system) + has_cascade(args):
        raise UserError(f"--system names one twice: {', '.join(args.system)}")
    study = _study(args, names)
    listed = read_prompt_list(args.prompts)
    # What others lack is told before anything is drawn.
    systems = [
        read_system(name, folder, listed.prompts, args.num)
        for name, folder in folders.items()
    ]
    if has_cascade(args):
        drawn = _draw(args, listed)
        systems.insert(0, read_system(args.name, drawn, listed.prompts, args.num))
    footer = openmoji.ATTRIBUTION if args.demo else None
    sheets = write_category_sheets(args.out, systems, listed, footer)
    write_json(args.out / "drawbench.json", describe_systems(systems, listed, args.num))
    if study:
        by_name = {system.name: system for system in systems}
        write_study(args.out / "study", by_name[study[0]], by_name[study[1]], listed)
    if listed.num_repeated:
        print(f"{listed.num_repeated} prompts repeat one before and were left out")
    print(
        f"{len(listed.prompts)} prompts in {len(sheets)} categories, {args.num} "
        f"pictures each, of {', '.join(names)}: {args.out}"
    )


def _draw(args: argparse.Namespace, listed: PromptList) -> Path:
    """Returns the folder with the pictures that are drawn here."""
    keep_freed_memory()
    options = {**read_settings(args), "second": "", "blend": 0.5}
    keep_compiled()
    model = open_cascade(args)
    prompts = [Prompt(text) for text in dict.fromkeys(p.prompt for p in listed.prompts)]
    pictures = plan_pictures(prompts, args.num, args.seed)
    folder = args.out / "samples"
    stage = model.names[-1]
    gallery = Gallery(folder, pictures, [stage], describe(model, options))
    fill(model, gallery, options, (0, 1))
    return folder


def _pair(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not (name.strip() and separator and folder):
        raise UserError(f"--system {text!r} is not NAME=FOLDER; give both")
    return name.strip(), Path(folder)


def _study(args: argparse.Namespace, names: list[str]) -> list[str]:
    """Returns the two systems that --study names, or none."""
    if args.study is None:
        return []
    chosen = [name.strip() for name in args.study.split(",")]
    if len(set(chosen)) != 2 or not set(chosen) <= set(names):
        raise UserError(
            f"--study={args.study} must name two of {', '.join(names)}, with a comma "
            "between"
        )
    if args.num != SET_SIZE:
        raise UserError(
            f"--study with --num={args.num}: raters see sets of {SET_SIZE} pictures; "
            f"give --num={SET_SIZE}"
        )
    return chosen
