"""Scores a folder of pictures: FID, KID, precision, recall, Inception score."""

import argparse
from pathlib import Path

from imagen_jax.evaluate.arguments import add_features
from imagen_jax.evaluate.output import write_json
from imagen_jax.evaluation.fid import format_result, score_folder
from imagen_jax.features.opening import open_extractor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--pictures", type=Path, required=True, help="folder to judge")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="file of `evaluate statistics`, or a folder of real pictures",
    )
    parser.add_argument("--out", type=Path, help="JSON to write")
    add_features(parser)


def run(args: argparse.Namespace) -> None:
    """Prints the figures with their warnings, writes the result."""
    result = score_folder(
        args.pictures,
        args.reference,
        open_extractor(args.features, args.weights),
        square=args.square,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    if args.out is not None:
        write_json(args.out, result)
    print(format_result(result))
