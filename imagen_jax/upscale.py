r"""`python -m imagen_jax.upscale`: enlarges true low-res pictures by one stage.

    python -m imagen_jax.upscale --workdir=SR256 --source=tfds:DIR:held_out \
        --store=STORE --num=32 --probe=FILE.npz

Takes pictures of a source, box-averages them to the low resolution and enlarges them
again, so that what is wrong in the result is this stage's fault alone. FILE.npz
holds the uint8 arrays truth, low_res and output, as `evaluate quickstart` reads them.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.bundle import load_stage
from imagen_jax.data.probe import read_probe
from imagen_jax.data.sources.opening import open_source
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.errors import UserError, run_command
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.text_source import open_text
from imagen_jax.workdir import local_copy


def main() -> None:
    """Parses the command line, enlarges, writes the arrays."""
    parser = argparse.ArgumentParser(prog="python -m imagen_jax.upscale")
    parser.add_argument("--workdir", required=True, help="a folder, gs:// or s3://")
    parser.add_argument("--source", required=True, help="tfds:DIR:SPLIT")
    parser.add_argument(
        "--store", default="", help="embeddings of its captions; else the encoder runs"
    )
    parser.add_argument("--num", type=int, default=32, help="pictures, evenly spaced")
    parser.add_argument("--steps", type=int, help="sampler steps")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--probe", required=True, type=Path, help="the .npz to write")
    flags = parser.parse_args()
    if flags.num < 1 or flags.batch_size < 1:
        raise UserError(
            f"--num={flags.num} --batch_size={flags.batch_size}: both must be at "
            "least 1"
        )

    stage, params = load_stage(local_copy(flags.workdir))
    config = stage.config
    if not config.is_super_resolution:
        raise UserError(
            f"{flags.workdir} is a base stage; give that of a super-resolution stage"
        )
    source = open_source(flags.source)
    probe = read_probe(source, flags.num, config.resolution, config.low_res_resolution)
    assert probe.low_res is not None
    text = open_text(config.text, flags.store, make_mesh()).embed(probe.captions)

    settings = config.sampler
    if flags.steps is not None:
        settings = dataclasses.replace(settings, num_steps=flags.steps)
    sampler = Sampler(stage, settings)
    output = []
    for start in range(0, flags.num, flags.batch_size):
        part = np.arange(start, start + flags.batch_size) % flags.num
        pictures = sampler(
            params,
            jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf[part]), text),
            sampling_params(settings, part),
            to_unit(jnp.asarray(probe.low_res[part])),
        )
        output.append(np.asarray(jax.device_get(to_uint8(pictures))))
    output = np.concatenate(output)[: flags.num]
    flags.probe.parent.mkdir(parents=True, exist_ok=True)
    np.savez(flags.probe, truth=probe.image, low_res=probe.low_res, output=output)
    print(f"{flags.num} pictures enlarged by {config.name}: {flags.probe}")


if __name__ == "__main__":
    run_command(main)
