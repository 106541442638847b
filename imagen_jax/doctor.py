r"""`python -m imagen_jax.doctor`: can this config be trained? Minutes, not days.

    python -m imagen_jax.doctor --config=configs/quickstart_base.py \
        --config.data.source=tfds:DATA:train --config.data.store=STORE
    python -m imagen_jax.doctor --config=configs/imagen_64_2b.py --shrink

Overfits 8 pictures of `data.source` and samples them back; says PASS (exit status 0) or
FAIL (1), and names the fault and what to do. Without a source it draws shapes; without
`data.store` the text is fake, random embeddings drawn from each caption's hash.

Flags and wiring only; see `imagen_jax.training.doctor`.
"""

import argparse
import functools
import sys
from pathlib import Path

from imagen_jax.config_file import load_config
from imagen_jax.data.sources.opening import open_source
from imagen_jax.errors import UserError, run_command
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.super_resolution import psnr
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.text_source import from_store
from imagen_jax.training.doctor import examine
from imagen_jax.training.overfit import fake_text
from imagen_jax.training.shrink import shrink
from imagen_jax.training.verdict import Verdict

NUM_SHAPES = 64  # enough for 8 different captions


def main() -> None:
    """Parses the command line, examines the stage and says what was found."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.doctor",
        description="Overfit 8 pictures with a config and say what is wrong, if any.",
        epilog="Any field of the config: --config.data.source=tfds:DIR",
    )
    parser.add_argument("--config", required=True, help="a file of configs/")
    parser.add_argument(
        "--shrink", action="store_true", help="a small network of the same kind"
    )
    parser.add_argument("--out", type=Path, help="grid of pictures and samples, PNG")
    flags, rest = parser.parse_known_args()
    if unknown := [a for a in rest if not a.startswith("--config.")]:
        raise UserError(
            f"unknown flag {unknown[0]!r}; flags are --config, --shrink, --out and "
            "--config.FIELD=VALUE"
        )
    config = load_config(flags.config, [a.removeprefix("--config.") for a in rest])
    if flags.shrink:
        config = shrink(config)
    text, store = config.text, config.data.store
    if store:
        text_fn = from_store(text, store).embed
    else:
        text_fn = functools.partial(
            fake_text, width=text.width, max_length=text.max_length
        )
    name = config.data.source or f"synthetic:{NUM_SHAPES}:{config.resolution}"
    print(f"pictures: {name}; text: {store or 'fake'}", flush=True)
    tell = functools.partial(print, flush=True)
    verdict = examine(config, open_source(name), text_fn, psnr, tell)
    if flags.out and verdict.samples is not None:
        write_comparison(flags.out, verdict)
    print(verdict.text)
    sys.exit(0 if verdict.passes else 1)


def write_comparison(path: Path, verdict: Verdict) -> None:
    """Writes a row of the true pictures above a row of the sampled ones."""
    pictures, samples = verdict.pictures, verdict.samples
    assert samples is not None
    assert verdict.psnr_db is not None
    write_grid(
        path,
        [*pictures.image, *samples],
        [*pictures.captions, *(f"sampled, {db:.1f} dB" for db in verdict.psnr_db)],
        columns=len(samples),
    )


if __name__ == "__main__":
    run_command(main)
