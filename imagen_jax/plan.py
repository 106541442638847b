r"""`python -m imagen_jax.plan`: what a stage needs on a TPU slice, before renting one.

    python -m imagen_jax.plan --config=configs/imagen_64_2b.py --topology=v5e:16x16
    python -m imagen_jax.plan --config=configs/imagen_sr1024_400m.py \
        --topology=v5e:1x1 --sample --batch_size=1
    python -m imagen_jax.plan --encoder=t5_v1_1_xxl --topology=v5e:4x4 --batch_size=64

Compiles the very program that would run for a slice that need not be there (extra
`tpu`) and prints the memory that the compiler reports, beside estimates that need no
compiler (--nocompile). Exit status 1: it does not fit; the last line says what would.

Flags and wiring only; the model is `imagen_jax.planning`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax

from imagen_jax.config import StageConfig
from imagen_jax.config_file import load_config
from imagen_jax.errors import UserError, run_command
from imagen_jax.planning.plans import (
    Plan,
    Wishes,
    plan_encoder,
    plan_sampling,
    plan_training,
)
from imagen_jax.planning.topology import find_slice, require_compiler
from imagen_jax.sampling.png_text import check_folder, whole_file


def main() -> None:
    """Parses the command line, plans, and prints the plan."""
    flags, overrides = parse_flags()
    if bool(flags.config) == bool(flags.encoder):
        raise UserError("give --config=FILE for a stage or --encoder=NAME, one of them")
    if flags.encoder and (overrides or flags.sample):
        raise UserError("--sample and --config.FIELD=VALUE go with --config, not here")
    if flags.out:
        check_folder(flags.out.parent, f"--out={flags.out}")
        if flags.out.is_dir():
            raise UserError(f"--out={flags.out} is a folder; give the file to write")
    if not flags.nocompile:
        require_compiler()
    if not 0 < flags.mfu <= 1:
        raise UserError(f"--mfu is {flags.mfu:g}; it is a share, above 0, at most 1")
    price = flags.price_per_chip_hour
    if price is not None and not price >= 0:  # NaN too
        raise UserError(f"--price_per_chip_hour is {price:g}; give 0 or more")
    jax.config.update("jax_platforms", "cpu")
    # A program for a TPU that is not there can be written to the cache, but not read.
    jax.config.update("jax_enable_compilation_cache", False)
    wishes = Wishes(
        effort=None if flags.nocompile else flags.effort,
        steps=flags.steps,
        mfu=flags.mfu,
        captions=flags.captions,
        tokens=flags.tokens,
        price=price,
    )
    plan = make_plan(flags, overrides, wishes)
    for line in plan.lines:
        print(line)
    if flags.out:
        with whole_file(flags.out) as partial:
            partial.write_text(json.dumps(plan.values, indent=2) + "\n")
    sys.exit(0 if plan.fits else 1)


def make_plan(flags: argparse.Namespace, overrides: list[str], wishes: Wishes) -> Plan:
    """Returns the plan that the flags ask for."""
    if flags.encoder:
        chips = find_slice(flags.topology)
        length = flags.length
        return plan_encoder(flags.encoder, chips, flags.batch_size, length, wishes)
    config: StageConfig = load_config(flags.config, overrides)
    chips = find_slice(flags.topology, config.mesh.num_slices)
    if flags.sample:
        return plan_sampling(config, chips, flags.batch_size, wishes)
    return plan_training(config, chips, wishes)


def positive(text: str) -> int:
    """Returns a whole number of at least 1; argparse names the flag if it is none."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def parse_flags() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and what overrides the config as FIELD=VALUE."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.plan",
        description="What a stage needs on a TPU slice that need not be there.",
        epilog="Any field of the config: --config.train.batch_size=256",
    )
    add: Any = parser.add_argument
    add("--config", help="a file of configs/")
    add("--encoder", help="a text encoder instead, such as t5_v1_1_xxl")
    add("--topology", required=True, help="such as v5e:16x16")
    add("--nocompile", action="store_true", help="estimates alone, without libtpu")
    add("--effort", choices=("fast", "full"), default="fast", help="of the compiler")
    add("--sample", action="store_true", help="the sampler, on one chip of the slice")
    add("--batch_size", type=positive, default=1, help="of --sample and --encoder")
    add("--length", type=positive, default=128, help="tokens of --encoder")
    add("--steps", type=positive, help="of the run; default: the config's")
    add("--mfu", type=float, default=0.4, help="share of the peak that you expect")
    add("--captions", type=positive, default=1_000_000, help="of the embedding store")
    add("--tokens", type=positive, default=20, help="of a caption, on average")
    add("--price_per_chip_hour", type=float, help="in your currency")
    add("--out", type=Path, help="write the plan as JSON too")
    flags, rest = parser.parse_known_args()
    if unknown := [a for a in rest if not a.startswith("--config.")]:
        raise UserError(
            f"unknown flag {unknown[0]!r}; python -m imagen_jax.plan --help lists them"
        )
    return flags, [argument.removeprefix("--config.") for argument in rest]


if __name__ == "__main__":
    run_command(main)
