"""Flags of the jobs that draw pictures: which cascade, and with which settings."""

import argparse
import sys
from typing import Any

from tqdm import tqdm

from imagen_jax.errors import UserError
from imagen_jax.evaluation.cascade_part import part_up_to
from imagen_jax.loading import DEMO, load
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampler_choice import FIELDS, read_choice

SHORT = {  # as `python -m imagen_jax.sample` calls them -> field of SamplerConfig
    "guidance": "guidance_weight",
    "steps": "num_steps",
    "sampler": "kind",
}


def add_cascade(
    parser: argparse.ArgumentParser, resolution: int | None, required: bool = True
) -> None:
    """Declares where the cascade is and how it samples.

    Args:
      parser: of the job.
      resolution: up to which it draws unless said otherwise; None is all stages.
      required: whether there must be one.
    """
    where = parser.add_mutually_exclusive_group(required=required)
    where.add_argument("--bundle", help="folder of a whole cascade")
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    flag = parser.add_argument
    flag(
        "--resolution",
        type=int,
        default=resolution,
        help="of the pictures judged; higher stages are left out "
        f"(default: {resolution or 'of the last stage'})",
    )
    flag("--batch_size", type=int, default=32)
    flag("--in_turn", action="store_true", help="one stage at a time on the devices")
    flag("--embeddings", default="", help="store of the prompts' embeddings")
    flag("--encoder_weights", default="", help="folder, hub name or T5X checkpoint")
    flag(
        "--set",
        action="append",
        default=[],
        metavar="KEY=V[,V per stage]",
        help="of the sampler: guidance, steps, sampler, threshold and more",
    )


def has_cascade(args: argparse.Namespace) -> bool:
    """Returns whether the flags name a cascade."""
    return bool(args.workdirs or args.bundle or args.demo)


def open_cascade(args: argparse.Namespace) -> Pipeline:
    """Returns the stages that the flags name."""
    folders = args.workdirs.split(",") if args.workdirs else [args.bundle or DEMO]
    model = load(
        *folders,
        embeddings=args.embeddings,
        encoder_weights=args.encoder_weights,
        resident=not args.in_turn,
        say=lambda text: tqdm.write(text, file=sys.stderr),
    )
    return part_up_to(model, args.resolution)


def read_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what --set and --batch_size choose, as `Pipeline.plan` takes it.

    Raises:
      UserError: a word without a value, an unknown key, or a batch without a picture.
    """
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size}; it must be at least 1")
    settings: dict[str, Any] = {"batch_size": args.batch_size}
    for assignment in args.set:
        name, separator, text = assignment.partition("=")
        field = SHORT.get(name, name)
        if not separator or field not in FIELDS:
            raise UserError(
                f"--set={assignment} sets nothing of the sampler; give KEY=VALUE "
                f"with a key of {', '.join((*SHORT, *FIELDS))}"
            )
        settings[field] = read_choice(text)
    return settings
