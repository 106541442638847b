"""The command `python -m imagen_jax.evaluate`: how good are these samples?

quickstart            scores a folder of the quickstart's samples
quickstart-reference  makes the reference from the reports of a few seeds
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError, run_command
from imagen_jax.evaluation.quickstart import format_table, make_report
from imagen_jax.evaluation.reference import (
    make_reference,
    read_reference,
    read_report,
)

# Committed in the repository; an installed package does not carry it.
DEFAULT_REFERENCE = Path(__file__).parents[1] / "docs" / "quickstart" / "reference.json"


def main() -> None:
    """Runs the command that the arguments name."""
    args = _parse_args()
    match args.command:
        case "quickstart":
            _score_quickstart(args)
        case "quickstart-reference":
            reports = [read_report(Path(name)) for name in args.reports.split(",")]
            _write_json(args.out, make_reference(reports))
            print(f"wrote the reference of {len(reports)} reports to {args.out}")


def _score_quickstart(args: argparse.Namespace) -> None:
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
        _write_json(args.out, report)
    print(format_table(report, reference))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another --out"
        ) from error


def _amount(text: str) -> float:
    """Returns a finite number of at least 0; argparse reports anything else."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.evaluate", allow_abbrev=False, description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("quickstart", allow_abbrev=False)
    score.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="folder of sampled pictures with their manifest.jsonl",
    )
    score.add_argument(
        "--run", type=Path, help="folder of the run: sr_probe.npz, base/metrics.jsonl"
    )
    score.add_argument(
        "--reference",
        type=Path,
        help="reference to compare with (default: the committed one, if it is there)",
    )
    score.add_argument("--minutes", type=_amount, help="wall time of the run")
    score.add_argument("--cpu_seconds", type=_amount, help="CPU time of the run")
    score.add_argument("--out", type=Path, help="where to write report.json")
    band = commands.add_parser("quickstart-reference", allow_abbrev=False)
    band.add_argument(
        "--reports", required=True, help="report.json of each seed, comma-separated"
    )
    band.add_argument("--out", type=Path, required=True, help="reference.json to write")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
