"""Makes the quickstart's reference from the reports of a few seeds."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.reference import make_reference, read_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument(
        "--reports", required=True, help="report.json of each seed, comma-separated"
    )
    parser.add_argument("--out", type=Path, required=True, help="reference.json")


def run(args: argparse.Namespace) -> None:
    """Writes the reference."""
    reports = [read_report(Path(name)) for name in args.reports.split(",")]
    write_json(args.out, make_reference(reports))
    print(f"wrote the reference of {len(reports)} reports to {args.out}")
