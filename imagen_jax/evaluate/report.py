r"""Gathers runs and results into one HTML page.

    python -m imagen_jax.evaluate report --workdir=BASE,SR256 \
        --folder=EVALUATION --out=report.html

The page shows curves, previews, tables, sheets and settings. It loads nothing and needs
no script. What is missing or corrupt is said in it.
"""

import argparse
import datetime
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.evaluate.output import write_text
from imagen_jax.evaluation.report.gather import Room, gather_folder, gather_run
from imagen_jax.evaluation.report.page import make_page
from imagen_jax.sampling.recipe import versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--workdir", default="", help="of runs, with commas between")
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        help="that an evaluate job has written; may be given again",
    )
    parser.add_argument("--title", default="Report", help="of the page")
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")


def run(args: argparse.Namespace) -> None:
    """Writes the page and says how large it is."""
    workdirs = [Path(name) for name in args.workdir.split(",") if name]
    if not workdirs and not args.folder:
        raise UserError(
            "there is nothing to report on; give --workdir=RUN or --folder=DIR"
        )
    room = Room()
    runs = [gather_run(path, room) for path in workdirs]
    folders = [gather_folder(path, room) for path in args.folder]
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = make_page(runs, folders, versions(), made, args.title)
    write_text(args.out, page)
    size = len(page.encode()) / 1e6
    print(f"{len(runs)} runs, {len(folders)} folders, {size:.1f} MB: {args.out}")
