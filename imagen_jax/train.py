r"""`python -m imagen_jax.train`: trains one stage from a config file.

    python -m imagen_jax.train --config=configs/quickstart_base.py --workdir=DIR \
        --config.train.num_steps=2000

On a TPU pod or under Slurm run it on every host with --coordinator=auto, elsewhere with
--coordinator=HOST:PORT --num_processes=N --process_id=I; all share --workdir.

Flags and wiring only; the loop is `imagen_jax.training.loop`.
"""

import argparse
import logging
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from imagen_jax.config import StageConfig
from imagen_jax.config_file import load_config
from imagen_jax.data.crops import CropSpec
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError, run_command
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.interfaces import Batch
from imagen_jax.parallel.distributed import add_flags, join
from imagen_jax.parallel.mesh import check_batch_size, data_shard, make_mesh
from imagen_jax.parallel.sharding import constrain_batch, unsharded_by_tensor
from imagen_jax.preview import make_preview
from imagen_jax.stage import build_stage
from imagen_jax.text_source import open_training_text, with_identity
from imagen_jax.training.heldout import HeldoutLoss
from imagen_jax.training.loop import compile_step, train
from imagen_jax.training.profile import parse_window
from imagen_jax.workdir import open_workdir


def main() -> None:
    """Parses the command line and trains."""
    keep_freed_memory()
    flags, overrides = parse_flags()
    config = load_config(flags.config, overrides)
    profile_steps = parse_window(flags.profile, config.train.num_steps)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    join(flags.coordinator, flags.num_processes, flags.process_id)
    check_platform(config)

    mesh = make_mesh(config.mesh)
    check_batch_size(config.train.batch_size, mesh)
    text = open_training_text(config, mesh)
    config = with_identity(config, text.identity)
    stage = build_stage(config, constrain=constrain_batch)
    report_replicated(config, mesh)
    workdir = open_workdir(flags.workdir)
    maker = BatchMaker(
        open_source(config.data.source),
        text.batch_text,
        resolution=config.resolution,
        batch_size=config.train.batch_size,
        seed=config.seed,
        shard=data_shard(mesh),
        crop=crop_of(config),
        cache=config.data.cache,
        max_bad_share=config.data.max_bad_share,
    )

    def batches_fn(start: int, stop: int) -> Iterator[Batch]:
        return iterate(maker, start, stop, config.data.num_threads)

    if flags.compile_only:
        compile_step(stage, mesh, batches_fn, text.encode_fn)
        return
    preview = heldout = None
    if config.train.preview_every:
        source = open_source(config.preview.source)
        preview = make_preview(stage, text.embed, source, workdir.local, mesh)
    if config.train.heldout_every:
        heldout = HeldoutLoss(
            stage,
            mesh,
            open_source(config.heldout.source),
            text.batch_text,
            encode_fn=text.encode_fn,
            crop=crop_of(config),
        )
    train(
        stage,
        mesh,
        batches_fn,
        workdir,
        encode_fn=text.encode_fn,
        preview_fn=preview,
        heldout_fn=heldout,
        init_from=flags.init_from,
        profile_steps=profile_steps,
    )


def parse_flags() -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and what overrides the config as FIELD=VALUE."""
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.train",
        description="Train one stage of the cascade; run again to resume.",
        epilog="Any field of the config: --config.train.batch_size=256",
    )
    parser.add_argument("--config", required=True, help="a file of configs/")
    parser.add_argument("--workdir", required=True, help="a folder, gs:// or s3://")
    parser.add_argument(
        "--platform", help="overrides the config's platform; 'any' takes what is there"
    )
    parser.add_argument(
        "--init_from",
        metavar="WORKDIR|BUNDLE",
        help="start a new run from these averaged weights",
    )
    parser.add_argument(
        "--freeze",
        metavar="REGEX",
        help="keep the parameters whose path it is found in: optimizer.freeze",
    )
    parser.add_argument(
        "--profile",
        metavar="START:STOP",
        help="trace the steps START to STOP - 1 to WORKDIR/profile",
    )
    parser.add_argument(
        "--compile_only",
        action="store_true",
        help="compile the step into JAX_COMPILATION_CACHE_DIR and end",
    )
    add_flags(parser)
    flags, rest = parser.parse_known_args()
    overrides = [argument.removeprefix("--config.") for argument in rest]
    if unknown := [a for a in rest if not a.startswith("--config.")]:
        raise UserError(
            f"unknown flag {unknown[0]!r}; flags are --config, --workdir, --platform, "
            "--init_from, --freeze, --profile, --compile_only, --coordinator, "
            "--num_processes, --process_id and --config.FIELD=VALUE"
        )
    if flags.compile_only and not jax.config.values["jax_compilation_cache_dir"]:
        raise UserError(
            "--compile_only keeps the program in JAX's compile cache, and there is "
            "none; name a folder in JAX_COMPILATION_CACHE_DIR"
        )
    if flags.platform:
        overrides.append(f"platform={flags.platform}")
    if flags.freeze is not None:
        overrides.append(f"optimizer.freeze={flags.freeze!r}")  # "7" is text
    return flags, overrides


def report_replicated(config: StageConfig, mesh: Mesh) -> None:
    """Prints which parameters the tensor axis does not divide."""
    if config.mesh.tensor > 1:
        abstract = jax.eval_shape(build_stage(config).init_params, jax.random.key(0))
        whole = unsharded_by_tensor(abstract, mesh)
        print(
            f"mesh.tensor = {config.mesh.tensor} does not divide and replicates "
            f"{len(whole)} parameters: {', '.join(whole) or 'none'}"
        )


def crop_of(config: StageConfig) -> CropSpec | None:
    """Returns the training crops that the config asks for."""
    if not config.data.crop_size:
        return None
    factor = config.resolution // config.low_res_resolution
    return CropSpec(config.data.crop_size, factor)


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
