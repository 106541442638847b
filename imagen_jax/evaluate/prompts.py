"""Writes captions of a source as prompts, one a line."""

import argparse
from pathlib import Path

import numpy as np

from imagen_jax.embedding.sources import open_captions
from imagen_jax.errors import UserError
from imagen_jax.evaluate.output import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--source", required=True, help="as config key data.source")
    parser.add_argument("--num", type=int, default=8, help="evenly spaced captions")
    parser.add_argument("--out", type=Path, required=True, help="text file to write")


def run(args: argparse.Namespace) -> None:
    """Writes the captions, each on one line, whatever it had."""
    captions = [" ".join(caption.split()) for caption in open_captions(args.source)]
    distinct = list(dict.fromkeys(filter(None, captions)))
    if not distinct or args.num < 1:
        raise UserError(
            f"{args.source} has {len(distinct)} captions and --num is {args.num}; both "
            "must be at least 1"
        )
    rows = np.linspace(0, len(distinct) - 1, min(args.num, len(distinct))).astype(int)
    write_text(args.out, "".join(f"{distinct[row]}\n" for row in rows))
    print(f"{len(rows)} of {len(distinct)} captions: {args.out}")
