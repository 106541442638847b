"""Makes a reference from a folder of real pictures."""

import argparse
from pathlib import Path

from imagen_jax.errors import UserError
from imagen_jax.evaluate.arguments import add_features
from imagen_jax.features.opening import open_extractor
from imagen_jax.metrics.pictures import open_folder, warnings_of
from imagen_jax.metrics.statistics import KEEP, make_statistics, write_statistics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    parser.add_argument("--pictures", type=Path, required=True, help="folder")
    parser.add_argument("--out", type=Path, required=True, help=".npz to write")
    parser.add_argument("--dataset", help="for the manifest (default: the folder)")
    parser.add_argument("--split", default="all", help="for the manifest")
    parser.add_argument(
        "--keep",
        type=int,
        default=KEEP,
        help=f"pictures whose features are kept (default: {KEEP})",
    )
    add_features(parser)


def run(args: argparse.Namespace) -> None:
    """Writes the reference and prints its manifest's main lines."""
    for name, least in (("keep", 2), ("batch_size", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise UserError(
                f"--{name} is {getattr(args, name)}; it must be at least {least}"
            )
    pictures = open_folder(args.pictures, args.square)
    statistics = make_statistics(
        pictures,
        open_extractor(args.features, args.weights),
        dataset=args.dataset or args.pictures.resolve().name,
        split=args.split,
        keep=args.keep,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    write_statistics(args.out, statistics)
    manifest = statistics.manifest
    for text in warnings_of(manifest["pictures"]):
        print(f"warning: {text}")
    print(
        f"{manifest['dataset']}, {manifest['split']}: {manifest['pictures']['count']} "
        f"pictures, {manifest['extractor']['name']}, features of "
        f"{manifest['features']['count']}: {args.out}"
    )
