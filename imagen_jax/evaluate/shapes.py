"""Checks by rule what pictures of the shapes set show of their sentences."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.arguments import add_costs
from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.shapes_report import format_shapes_report, make_shapes_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="folder of sampled pictures with their manifest.jsonl",
    )
    parser.add_argument("--out", type=Path, help="where to write report.json")
    add_costs(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the table, writes the report."""
    report = make_shapes_report(
        args.samples, minutes=args.minutes, cpu_seconds=args.cpu_seconds
    )
    if args.out is not None:
        write_json(args.out, report)
    print(format_shapes_report(report))
