r"""`python -m imagen_jax.sample`: pictures from prompts, through the cascade.

    python -m imagen_jax.sample --demo --prompt="a panda on a blue background"
    python -m imagen_jax.sample --workdirs=BASE,SR256 --prompt="..." --num=16 \
        --guidance=3,1 --out=grid.png
    python -m imagen_jax.sample --workdirs=BASE,SR256 --held_out_of=default --num=15 \
        --samples=DIR

Flags and wiring only; see `imagen_jax.sampling.cascade`.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from imagen_jax.bundle import load_stage
from imagen_jax.data.sources import openmoji
from imagen_jax.diffusion.samplers import SAMPLERS
from imagen_jax.errors import UserError, run_command
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.parallel.mesh import make_mesh, num_batch_shards
from imagen_jax.parallel.sharding import constrain_batch, replicated
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.cascade import CascadeStage, check_cascade, sample_cascade
from imagen_jax.sampling.gallery import write_gallery
from imagen_jax.sampling.sampler import Sampler
from imagen_jax.text_source import open_text
from imagen_jax.workdir import local_copy

DEMO = Path(__file__).parent.parent / "docs" / "demo"
GRID_LIMIT = 64  # pictures on a sheet


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags."""
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.sample")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true", help="the weights of docs/demo")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt")
    what.add_argument("--prompts", type=Path, help="text file, one prompt a line")
    what.add_argument("--held_out_of", help="held-out prompts of an OpenMoji set")
    parser.add_argument("--num", type=int, default=4, help="pictures per prompt")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture")
    parser.add_argument("--sampler", help="kind, or one per stage by commas")
    parser.add_argument("--guidance", help="weight, or one per stage by commas")
    parser.add_argument("--steps", help="sampler steps, or one per stage by commas")
    parser.add_argument("--aug_level", help="in [0, 1], or one per stage by commas")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument(
        "--embeddings", default="", help="store of the prompts' embeddings"
    )
    parser.add_argument("--encoder_weights", help="folder, hub name or T5X checkpoint")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help="grid")
    parser.add_argument("--samples", type=Path, help="folder for single pictures")
    return parser.parse_args()


def main() -> None:
    """Parses the command line, samples, writes the pictures."""
    flags = parse_flags()
    if flags.num < 1 or flags.batch_size < 1 or flags.seed < 0:
        raise UserError(
            f"--num={flags.num} --batch_size={flags.batch_size} --seed={flags.seed}: "
            "the first two must be at least 1, the seed at least 0"
        )
    mesh = make_mesh()
    folders = [DEMO / "base", DEMO / "sr256"]
    if not flags.demo:
        folders = [local_copy(folder) for folder in flags.workdirs.split(",")]
    with jax.set_mesh(mesh):
        loaded = [load_stage(folder, constrain=constrain_batch) for folder in folders]
    check_cascade([stage for stage, _ in loaded])
    cascade = [
        CascadeStage(
            Sampler(stage, sampler_of(stage.config.sampler, flags, i, len(loaded))),
            jax.device_put(params, replicated(mesh)),
        )
        for i, (stage, params) in enumerate(loaded)
    ]
    prompts = [prompt for prompt in read_prompts(flags) for _ in range(flags.num)]
    seeds = np.arange(flags.seed, flags.seed + len(prompts))
    text_config = loaded[0][0].config.text
    if flags.encoder_weights:
        text_config = dataclasses.replace(
            text_config, weights_path=flags.encoder_weights
        )
    text = open_text(text_config, flags.embeddings, mesh).embed(prompts)

    shards = num_batch_shards(mesh)
    batch_size = -(-min(flags.batch_size, len(prompts)) // shards) * shards
    total = len(prompts) * len(cascade)
    with jax.set_mesh(mesh), tqdm(total=total, unit="picture") as progress:

        def report(stage: str, num: int) -> None:
            progress.set_description(f"sample {stage}")
            progress.update(num)

        results = sample_cascade(
            cascade, text, seeds, batch_size=batch_size, report=report
        )
    if flags.samples:
        pictures = {
            stage.sampler.stage.config.name: images
            for stage, images in zip(cascade, results, strict=True)
        }
        held_out = flags.held_out_of is not None
        write_gallery(flags.samples, pictures, prompts, seeds.tolist(), held_out)
    # Of many prompts a few pictures each, rather than many of the first prompts.
    each = max(GRID_LIMIT * flags.num // len(prompts), 1)
    shown = [i for i in range(len(prompts)) if i % flags.num < each][:GRID_LIMIT]
    emoji = flags.demo or flags.held_out_of
    write_grid(
        flags.out,
        [results[-1][i] for i in shown],
        [prompts[i] for i in shown],
        columns=8,
        footer=openmoji.ATTRIBUTION if emoji else None,
    )
    print(f"{len(prompts)} pictures; grid: {flags.out}")


def read_prompts(flags: argparse.Namespace) -> list[str]:
    """Returns the prompts that the flags name."""
    if flags.prompt is not None:
        return [flags.prompt]
    if flags.held_out_of is not None:
        listed = openmoji.pairs(flags.held_out_of)
        return [pair.caption for pair in listed if pair.held_out]
    try:
        lines = flags.prompts.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts={flags.prompts} cannot be read: {error}") from error
    if not (prompts := [line for line in lines if line.strip()]):
        raise UserError(f"--prompts={flags.prompts} has no prompt; write one a line")
    return prompts


def sampler_of(
    default: SamplerConfig, flags: argparse.Namespace, stage: int, num_stages: int
) -> SamplerConfig:
    """Returns a stage's sampler settings with the command line's changes."""
    changes = {}
    fields = (
        ("sampler", "kind", _sampler_kind, f"of {', '.join(SAMPLERS)}"),
        ("guidance", "guidance_weight", float, "number"),
        ("steps", "num_steps", int, "number"),
        ("aug_level", "aug_level", float, "number"),
    )
    for flag, field, kind, what in fields:
        text = getattr(flags, flag)
        if text is None:
            continue
        try:
            values = [kind(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) not in (1, num_stages):
            raise UserError(
                f"--{flag}={text} must be one {what}, or {num_stages} by commas, one "
                "per stage"
            )
        changes[field] = values[stage % len(values)]
    return dataclasses.replace(default, **changes)


def _sampler_kind(text: str) -> str:
    if text not in SAMPLERS:
        raise ValueError(text)
    return text


if __name__ == "__main__":
    run_command(main)
