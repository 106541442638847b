r"""`python -m imagen_jax.train`: trains one stage from a config file.

    python -m imagen_jax.train --config=configs/quickstart_base.py --workdir=DIR \
        --config.train.num_steps=2000

Flags and wiring only; the loop is `imagen_jax.training.loop`.
"""

import argparse
import logging
from pathlib import Path

import jax

from imagen_jax.config import StageConfig
from imagen_jax.config_file import load_config
from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError, run_command
from imagen_jax.parallel.mesh import check_batch_size, data_shard, make_mesh
from imagen_jax.parallel.sharding import constrain_batch, unsharded_by_tensor
from imagen_jax.preview import make_preview
from imagen_jax.stage import build_stage
from imagen_jax.training.loop import train


def main() -> None:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.train",
        description="Train one stage of the cascade; run again to resume.",
        epilog="Any field of the config: --config.train.batch_size=256",
    )
    parser.add_argument("--config", required=True, help="a file of configs/")
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument(
        "--platform", help="overrides the config's platform; 'any' takes what is there"
    )
    flags, rest = parser.parse_known_args()
    overrides = [argument.removeprefix("--config.") for argument in rest]
    if unknown := [a for a in rest if not a.startswith("--config.")]:
        raise UserError(
            f"unknown flag {unknown[0]!r}; flags are --config, --workdir, --platform "
            "and --config.FIELD=VALUE"
        )
    if flags.platform:
        overrides.append(f"platform={flags.platform}")
    config = load_config(flags.config, overrides)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    check_platform(config)

    mesh = make_mesh(config.mesh)
    check_batch_size(config.train.batch_size, mesh)
    stage = build_stage(config, constrain=constrain_batch)
    if config.mesh.tensor > 1:
        abstract = jax.eval_shape(build_stage(config).init_params, jax.random.key(0))
        whole = unsharded_by_tensor(abstract, mesh)
        print(
            f"mesh.tensor = {config.mesh.tensor} does not divide and replicates "
            f"{len(whole)} parameters: {', '.join(whole) or 'none'}"
        )
    store = EmbeddingStore(config.data.store)
    store.check(width=config.text.width, encoder=config.text.encoder)
    maker = BatchMaker(
        open_source(config.data.source),
        store.lookup,
        resolution=config.resolution,
        batch_size=config.train.batch_size,
        seed=config.seed,
        shard=data_shard(mesh),
        cache=config.data.cache,
        max_bad_share=config.data.max_bad_share,
    )
    preview = None
    if config.train.preview_every:
        source = open_source(config.preview.source)
        preview = make_preview(stage, store, source, flags.workdir)
    train(
        stage,
        mesh,
        lambda start, stop: iterate(maker, start, stop, config.data.num_threads),
        flags.workdir,
        preview_fn=preview,
    )


def check_platform(config: StageConfig) -> None:
    """Prints the devices; raises a UserError if they are not what the config states."""
    device = jax.devices()[0]
    print(
        f"{config.name}: {jax.device_count()} x {device.device_kind} "
        f"(platform {device.platform}), {jax.process_count()} process(es)"
    )
    if config.platform not in ("any", device.platform):
        raise UserError(
            f"the config states platform {config.platform!r} and this is a "
            f"{device.platform!r} machine; add --platform=any to train on it all the "
            "same"
        )


if __name__ == "__main__":
    run_command(main)
