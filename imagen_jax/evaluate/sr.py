"""Scores pictures that `python -m imagen_jax.upscale` enlarged."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.samples import read_probe
from imagen_jax.evaluation.sr_report import describe_sr, make_sr_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--probe", type=Path, required=True, help=".npz of upscale")
    parser.add_argument("--out", type=Path, help="JSON to write")


def run(args: argparse.Namespace) -> None:
    """Prints the figures, writes the report."""
    report = make_sr_report(read_probe(args.probe))
    if args.out is not None:
        write_json(args.out, report)
    print("\n".join(describe_sr(report)))
