"""Flags that several jobs share."""

import argparse
import math

from imagen_jax.features.opening import NAMES


def amount(text: str) -> float:
    """Returns a finite number of at least 0; argparse reports anything else."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(text)
    return value


def add_costs(parser: argparse.ArgumentParser) -> None:
    """Adds what a run has cost, for its report."""
    parser.add_argument("--minutes", type=amount, help="wall time of the run")
    parser.add_argument("--cpu_seconds", type=amount, help="CPU time of the run")


def add_features(parser: argparse.ArgumentParser) -> None:
    """Adds which network describes pictures, and how they get to it."""
    parser.add_argument(
        "--features",
        choices=NAMES,
        default="inception",
        help="network that describes pictures (default: inception)",
    )
    parser.add_argument(
        "--weights",
        help="of the network: inception FILE or URL#sha256=HEX, dinov2 FOLDER or "
        "OWNER/NAME; efficientnet-lite0 has its own",
    )
    parser.add_argument(
        "--square",
        type=int,
        metavar="SIDE",
        help="crop the central square and resize it to SIDE pixels first",
    )
    parser.add_argument(
        "--batch_size", type=int, default=32, help="pictures at a time (default: 32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of subsets (default: 0)")
