r"""Scores how well pictures go with their texts, by CLIP.

    python -m imagen_jax.evaluate clip --pictures=SAMPLES \
        --weights=openai/clip-vit-base-patch16 --out=clip.json

--pictures holds the manifest.jsonl of `python -m imagen_jax.sample --samples`, or a
table captions.csv with the columns file,caption. All three customary scales are
printed; which of them a published figure has must be looked up, with its model and
prefix (`imagen_jax.metrics.clip_score`).
"""

import argparse
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.captioned import read_captioned
from imagen_jax.evaluation.clip_report import format_clip_report, make_clip_report
from imagen_jax.features.clip import open_clip
from imagen_jax.metrics.clip_score import PREFIX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    flag = parser.add_argument
    flag("--pictures", type=Path, required=True, help="folder with a list of texts")
    flag("--weights", required=True, help="FOLDER or OWNER/NAME of a whole CLIP")
    flag("--stage", help="of a manifest with several (default: the last)")
    flag("--prefix", default="", help=f"before each text; CLIPScore has {PREFIX!r}")
    flag("--batch_size", type=int, default=32, help="pictures at a time")
    flag("--out", type=Path, help="JSON to write, each picture's score in it")


def run(args: argparse.Namespace) -> None:
    """Prints the scores, writes the report."""
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; it must be at least 1")
    captioned = read_captioned(args.pictures, args.stage)
    clip = open_clip(args.weights)
    report = make_clip_report(clip, captioned, args.prefix, args.batch_size)
    if args.out is not None:
        write_json(args.out, report)
    print(format_clip_report(report))
