"""Scores a folder of the quickstart's samples."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.arguments import add_costs
from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.quickstart import format_table, make_report
from imagen_jax.evaluation.reference import read_reference

# Committed in the repository; an installed package does not carry it.
DEFAULT_REFERENCE = Path(__file__).parents[2] / "docs" / "quickstart" / "reference.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="folder of sampled pictures with their manifest.jsonl",
    )
    parser.add_argument(
        "--run", type=Path, help="folder of the run: sr_probe.npz, base/metrics.jsonl"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        help="reference to compare with (default: the committed one, if it is there)",
    )
    parser.add_argument("--out", type=Path, help="where to write report.json")
    add_costs(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the table, writes the report."""
    reference_file = args.reference
    if reference_file is None and DEFAULT_REFERENCE.is_file():
        reference_file = DEFAULT_REFERENCE
    reference = None if reference_file is None else read_reference(reference_file)
    report = make_report(
        args.samples,
        args.run,
        reference,
        minutes=args.minutes,
        cpu_seconds=args.cpu_seconds,
    )
    if args.out is not None:
        write_json(args.out, report)
    print(format_table(report, reference))
