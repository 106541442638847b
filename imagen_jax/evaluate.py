"""The command `python -m imagen_jax.evaluate`: how good are these samples?

quickstart            scores a folder of the quickstart's samples
quickstart-reference  makes the reference from the reports of a few seeds
sr                    scores pictures that `python -m imagen_jax.upscale` enlarged
folder                reports on a run of ./launch/train_folder.sh
prompts               writes captions of a source as prompts, one a line
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.embedding.sources import open_captions
from imagen_jax.errors import UserError, run_command
from imagen_jax.evaluation.folder_report import (
    format_folder_report,
    make_folder_report,
)
from imagen_jax.evaluation.quickstart import format_table, make_report
from imagen_jax.evaluation.reference import (
    make_reference,
    read_reference,
    read_report,
)
from imagen_jax.evaluation.samples import read_probe
from imagen_jax.evaluation.sr_report import describe_sr, make_sr_report

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
        case "sr":
            report = make_sr_report(read_probe(args.probe))
            if args.out is not None:
                _write_json(args.out, report)
            print("\n".join(describe_sr(report)))
        case "folder":
            report = make_folder_report(
                args.run, minutes=args.minutes, cpu_seconds=args.cpu_seconds
            )
            text = format_folder_report(report, args.run.resolve().name)
            _write(args.run / "report.md", text, "--run")
            _write_json(args.run / "report.json", report, "--run")
            print(text)
        case "prompts":
            _write_prompts(args)


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


def _write_prompts(args: argparse.Namespace) -> None:
    # On one line each; a caption may have several.
    captions = [" ".join(caption.split()) for caption in open_captions(args.source)]
    distinct = list(dict.fromkeys(filter(None, captions)))
    if not distinct or args.num < 1:
        raise UserError(
            f"{args.source} has {len(distinct)} captions and --num is {args.num}; both "
            "must be at least 1"
        )
    rows = np.linspace(0, len(distinct) - 1, min(args.num, len(distinct))).astype(int)
    _write(args.out, "".join(f"{distinct[row]}\n" for row in rows))
    print(f"{len(rows)} of {len(distinct)} captions: {args.out}")


def _write_json(path: Path, content: dict[str, Any], flag: str = "--out") -> None:
    _write(path, json.dumps(content, indent=2, allow_nan=False) + "\n", flag)


def _write(path: Path, text: str, flag: str = "--out") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another {flag}"
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
    score.add_argument("--out", type=Path, help="where to write report.json")
    band = commands.add_parser("quickstart-reference", allow_abbrev=False)
    band.add_argument(
        "--reports", required=True, help="report.json of each seed, comma-separated"
    )
    band.add_argument("--out", type=Path, required=True, help="reference.json to write")
    probe = commands.add_parser("sr", allow_abbrev=False)
    probe.add_argument("--probe", type=Path, required=True, help=".npz of upscale")
    probe.add_argument("--out", type=Path, help="JSON to write")
    folder = commands.add_parser("folder", allow_abbrev=False)
    folder.add_argument("--run", type=Path, required=True, help="folder of the run")
    for command in (score, folder):
        command.add_argument("--minutes", type=_amount, help="wall time of the run")
        command.add_argument("--cpu_seconds", type=_amount, help="CPU time of the run")
    prompts = commands.add_parser("prompts", allow_abbrev=False)
    prompts.add_argument("--source", required=True, help="as config key data.source")
    prompts.add_argument("--num", type=int, default=8, help="evenly spaced captions")
    prompts.add_argument("--out", type=Path, required=True, help="text file to write")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
