"""Reports on a run of ./launch/train_folder.sh."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.arguments import add_costs
from imagen_jax.evaluate.output import write_json, write_text
from imagen_jax.evaluation.folder_report import (
    format_folder_report,
    make_folder_report,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    add_costs(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the report and writes it into the run's folder."""
    report = make_folder_report(
        args.run, minutes=args.minutes, cpu_seconds=args.cpu_seconds
    )
    text = format_folder_report(report, args.run.resolve().name)
    write_text(args.run / "report.md", text, "--run")
    write_json(args.run / "report.json", report, "--run")
    print(text)
