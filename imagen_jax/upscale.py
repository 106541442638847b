r"""`python -m imagen_jax.upscale`: enlarges pictures by one stage alone.

    python -m imagen_jax.upscale --workdir=SR256 --picture=photo.png --out=large.png \
        --prompt="a house by the sea" --correct_colour
    python -m imagen_jax.upscale --workdir=SR256 --source=tfds:DIR:held_out \
        --store=STORE --num=32 --probe=FILE.npz

With --picture a file of any size is enlarged, in tiles that overlap where it is larger
than the stage's low resolution (`imagen_jax.sampling.tiling`).

With --source, pictures of a source are box-averaged to the low resolution and enlarged
again, so that what is wrong in the result is this stage's fault alone. FILE.npz
holds the uint8 arrays truth, low_res and output, as `evaluate quickstart` reads them.

Either way it says how far the colours moved (`imagen_jax.sampling.colour`).
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from imagen_jax.averages import open_averages
from imagen_jax.bundle import load_stage
from imagen_jax.config import StageConfig
from imagen_jax.data.images import MAX_PIXELS, decode
from imagen_jax.data.probe import read_probe
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.opening import open_source
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.diffusion.guidance import null_text
from imagen_jax.errors import UserError, run_command
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.prompt_text import PromptText
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.colour import colour_report, correct_colour
from imagen_jax.sampling.png_text import check_out, write_png
from imagen_jax.sampling.recipe import (
    ENCODER,
    Recipe,
    config_sha256,
    devices_of,
    versions,
)
from imagen_jax.sampling.room import naming_the_stage
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.sampling.tiling import upscale_picture
from imagen_jax.stage import Params
from imagen_jax.text_source import open_text
from imagen_jax.workdir import local_copy


def parse_flags() -> argparse.Namespace:
    """Returns the command line's flags.

    Raises:
      UserError: a number is too small, or a mode's own flag is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.upscale")
    parser.add_argument("--workdir", required=True, help="a folder, gs:// or s3://")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--picture", type=Path, help="file to enlarge, of any size")
    what.add_argument("--source", help="tfds:DIR:SPLIT")
    parser.add_argument("--steps", type=int, help="sampler steps")
    parser.add_argument("--batch_size", type=int, default=16, help="pictures or tiles")
    parser.add_argument(
        "--correct_colour", action="store_true", help="take the input's low frequencies"
    )
    parser.add_argument(
        "--store", default="", help="embeddings of the captions; else the encoder runs"
    )
    picture = parser.add_argument_group("with --picture")
    picture.add_argument("--prompt", default="", help="what the picture shows")
    picture.add_argument("--seed", type=int, default=0)
    picture.add_argument(
        "--overlap", type=int, help="of tiles in pixels; a quarter of a tile"
    )
    picture.add_argument("--out", type=Path, default=Path("upscaled.png"))
    source = parser.add_argument_group("with --source")
    source.add_argument("--num", type=int, default=32, help="pictures, evenly spaced")
    source.add_argument("--probe", type=Path, help="the .npz to write")
    flags = parser.parse_args()
    if flags.num < 1 or flags.batch_size < 1 or not 0 <= flags.seed < 2**32:
        raise UserError(
            f"--num={flags.num} --batch_size={flags.batch_size} --seed={flags.seed}: "
            "the first two must be at least 1, the seed from 0 to 4294967295"
        )
    if flags.source and not flags.probe:
        raise UserError("--source is given without --probe; add --probe=FILE.npz")
    if flags.picture:
        check_out(flags.out)
    return flags


def main() -> None:
    """Parses the command line, enlarges, writes the result."""
    keep_freed_memory()
    flags = parse_flags()
    stage, params = load_stage(local_copy(flags.workdir))
    if not stage.config.is_super_resolution:
        raise UserError(
            f"{flags.workdir} is a base stage; give that of a super-resolution stage"
        )
    settings = stage.config.sampler
    if flags.steps is not None:
        settings = dataclasses.replace(settings, num_steps=flags.steps)
    sampler = Sampler(stage, settings)
    enlarge = enlarge_file if flags.picture else enlarge_source
    enlarge(flags, sampler, params)


def enlarge_file(flags: argparse.Namespace, sampler: Sampler, params: Params) -> None:
    """Enlarges the picture of a file and writes it."""
    try:
        low_res = decode(flags.picture.read_bytes())
    except (OSError, BadRecordError) as error:
        raise UserError(
            f"--picture={flags.picture} cannot be read: {error}; give a PNG, JPEG or "
            "WebP file"
        ) from error
    config = sampler.stage.config
    scale = config.resolution // config.low_res_resolution
    (height, width), area = low_res.shape[:2], scale * scale
    if height * width * area > MAX_PIXELS:
        raise UserError(
            f"--picture={flags.picture} has {width} x {height} pixels, {scale} times "
            f"that on each side would be more than {MAX_PIXELS // 10**6} million; give "
            f"at most {MAX_PIXELS // area} pixels"
        )
    encoder = {}
    if flags.prompt:
        source = open_text(config.text, flags.store, make_mesh())
        embed = PromptText(source, [config.text], tqdm.write)
        text, encoder = embed([flags.prompt]), {ENCODER: dict(embed.identity)}
    else:
        null = null_text(1, config.text.max_length, config.text.width, jnp.bfloat16)
        text = jax.tree.map(np.asarray, TextEmbeddings(*null))
    with (
        naming_the_stage(config.name, flags.batch_size),
        tqdm(unit="tile", desc=f"upscale {config.name}") as progress,
    ):
        output = upscale_picture(
            sampler,
            params,
            text,
            low_res,
            flags.seed,
            overlap=flags.overlap,
            batch_size=flags.batch_size,
            report=progress.update,
        )
    print(colour_report(output, low_res))
    if flags.correct_colour:
        output = correct_colour(output, low_res)
        print(f"corrected: {colour_report(output, low_res)}")
    recipe = recipe_of(flags, config, sampler.config, low_res, encoder)
    write_png(flags.out, output, recipe)
    print(f"{width} x {height} pixels, {scale} times enlarged: {flags.out}")


def recipe_of(
    flags: argparse.Namespace,
    config: StageConfig,
    settings: SamplerConfig,
    low_res: UInt8[np.ndarray, "h w 3"],
    encoder: dict[str, dict[str, Any]],
) -> Recipe:
    """Returns what an enlarged picture follows from, for its PNG."""
    weights = open_averages(local_copy(flags.workdir)).origin()
    stage = {config.name: {"config_sha256": config_sha256(config), **weights}}
    return Recipe(
        prompt=flags.prompt,
        negative="",
        second="",
        blend=0.0,
        seed=flags.seed,
        stage=config.name,
        samplers={config.name: dataclasses.asdict(settings)},
        edit={
            "low_res_sha256": hashlib.sha256(low_res.tobytes()).hexdigest(),
            "overlap": flags.overlap,
            "correct_colour": flags.correct_colour,
        },
        model={**stage, **encoder},
        batch_size=flags.batch_size,
        row=0,
        devices=devices_of(make_mesh(devices=jax.devices()[:1])),
        versions=versions(),
    )


def enlarge_source(flags: argparse.Namespace, sampler: Sampler, params: Params) -> None:
    """Enlarges pictures of a source from their true low-res and writes the arrays."""
    config = sampler.stage.config
    source = open_source(flags.source)
    probe = read_probe(source, flags.num, config.resolution, config.low_res_resolution)
    assert probe.low_res is not None
    text = open_text(config.text, flags.store, make_mesh()).embed(probe.captions)
    output = []
    for start in range(0, flags.num, flags.batch_size):
        part = np.arange(start, start + flags.batch_size) % flags.num
        pictures = sampler(
            params,
            jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf[part]), text),
            sampling_params(sampler.config, part),
            to_unit(jnp.asarray(probe.low_res[part])),
        )
        output.append(np.asarray(jax.device_get(to_uint8(pictures))))
    output = np.concatenate(output)[: flags.num]
    for i, low_res in enumerate(probe.low_res):
        print(f"picture {i}: {colour_report(output[i], low_res)}")
        if flags.correct_colour:
            output[i] = correct_colour(output[i], low_res)
    flags.probe.parent.mkdir(parents=True, exist_ok=True)
    np.savez(flags.probe, truth=probe.image, low_res=probe.low_res, output=output)
    print(f"{flags.num} pictures enlarged by {config.name}: {flags.probe}")


if __name__ == "__main__":
    run_command(main)
