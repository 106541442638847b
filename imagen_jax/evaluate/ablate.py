r"""Trains small runs with one thing changed, and says whether a difference is seen.

    python -m imagen_jax.evaluate ablate --only=conditioning --out=DIR \
        --source=tfds:DATA:train --store=STORE
    python -m imagen_jax.evaluate ablate --only=thresholding --out=DIR

Every arm has the same steps, pictures and seeds. A finished arm is kept in OUT and not
run again. --source and --store are those of the quickstart; thresholding needs none.
OUT gets ablation.json, ablation.md and a sheet of pictures, sheet.png.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.ablations.arm import draw_arm, keep, recall, train_arm
from imagen_jax.ablations.encoders import embed, find_encoder
from imagen_jax.ablations.report import format_ablation, make_ablation_report
from imagen_jax.ablations.scoring import SET, score_arm, score_training
from imagen_jax.ablations.table import (
    ABLATIONS,
    Ablation,
    Arm,
    find_ablation,
    with_encoders,
)
from imagen_jax.ablations.wordings import read_wordings
from imagen_jax.compiled import keep_compiled
from imagen_jax.config_file import load_config
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.evaluate.output import write_json, write_text
from imagen_jax.evaluation.cascade_part import part_up_to
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.loading import DEMO, load

CONFIGS = Path(__file__).parents[2] / "configs"
BASE_RESOLUTION = 64
MAX_LENGTH = 16  # tokens, as the quickstart
LOGGED = 40  # times in a run
SMOKE_STEPS = 4  # the later half of which is compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the job's flags."""
    flag = parser.add_argument
    flag("--only", required=True, help=", ".join(ABLATIONS))
    flag("--seeds", default="0,1", help="of the training runs (default: 0,1)")
    flag("--steps", type=int, help="of each training run (default: the ablation's)")
    flag("--num", type=int, default=4, help="pictures per prompt and seed")
    flag("--source", help="training pictures of the quickstart")
    flag("--store", default="", help="embeddings of their captions")
    flag("--encoders", help="of --only=text, such as minilm,t5_v1_1_small")
    flag("--base", default=str(DEMO / "base"), help="stage that draws the low-res")
    flag("--encoder_weights", default="", help="for the prompts, as `sample` takes it")
    flag("--set", action="append", default=[], help="KEY=V of every arm's config")
    flag("--batch_size", type=int, default=16, help="pictures drawn at a time")
    flag("--smoke", action="store_true", help="4 steps, 1 picture: does it run?")
    flag("--out", type=Path, required=True, help="folder")


def run(args: argparse.Namespace) -> None:
    """Runs the missing arms, prints the table, writes it."""
    ablation, seeds = find_ablation(args.only), _check(args)
    if args.encoders:
        ablation = with_encoders(ablation, args.encoders.split(","))
    if ablation.config and not args.source:
        raise UserError(
            f"--only={args.only} trains on the quickstart's set and --source is not "
            "given; make it with python -m imagen_jax.prepare openmoji --set=default"
        )
    keep_freed_memory()
    keep_compiled()
    scores, shown = {}, []
    for arm in ablation.arms:
        runs = []
        for seed in seeds:
            figures, picture = _run_arm(args, ablation, arm, seed)
            print(f"{arm.name}, seed {seed}: {_words(figures)}", flush=True)
            runs.append(figures)
            shown += [picture] if seed == seeds[0] else []
        scores[arm.name] = {
            name: np.stack([figures[name] for figures in runs]) for name in runs[0]
        }
    report = make_ablation_report(
        args.only,
        ablation,
        scores,
        seeds=seeds,
        steps=_steps(args, ablation),
        pictures_per_prompt=_num(args),
    )
    write_json(args.out / "ablation.json", report)
    write_grid(args.out / "sheet.png", shown, list(scores), len(scores))
    table = format_ablation(report)
    write_text(args.out / "ablation.md", table + "\n")
    print(table)


def _check(args: argparse.Namespace) -> list[int]:
    """Returns the seeds; refuses what no run can have."""
    for name in ("steps", "num", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}={value}; it must be at least 1")
    words = args.seeds.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UserError(
            f"--seeds={args.seeds!r}; give different whole numbers, such as 0,1"
        )
    return [int(word) for word in words]


def _steps(args: argparse.Namespace, ablation: Ablation) -> int:
    if not ablation.config:
        return 0
    return SMOKE_STEPS if args.smoke else args.steps or ablation.steps


def _num(args: argparse.Namespace) -> int:
    return 1 if args.smoke else args.num


def _run_arm(
    args: argparse.Namespace, ablation: Ablation, arm: Arm, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns an arm's figures, [units k] each, and its first picture."""
    pairs = [pair for pair in openmoji.pairs(SET) if pair.held_out]
    asked = [(pair.caption, pair) for pair in pairs]
    asked += read_wordings(pairs) if ablation.reworded else []
    num = _num(args)
    prompts = [text for text, _ in asked for _ in range(num)]
    wanted = [pair for _, pair in asked for _ in range(num)]
    folder = args.out / f"{arm.name}-{seed}"
    pictures = _pictures(args, ablation, arm, seed, prompts, folder)
    first = len(pairs) * num
    figures = score_arm(pictures[:first], wanted[:first])
    if ablation.reworded:
        others = score_arm(pictures[first:], wanted[first:])
        figures |= {f"{name}_reworded": values for name, values in others.items()}
    figures = {name: values.reshape(-1, num) for name, values in figures.items()}
    if ablation.config:
        trained = score_training(folder / "run")
        figures |= {name: values[:, None] for name, values in trained.items()}
    return figures, pictures[0]


def _pictures(
    args: argparse.Namespace,
    ablation: Ablation,
    arm: Arm,
    seed: int,
    prompts: list[str],
    folder: Path,
) -> np.ndarray:
    """Returns an arm's pictures, made now if they are missing."""
    steps = _steps(args, ablation)
    overrides = [
        f"seed={seed}",
        f"train.num_steps={steps}",
        f"train.checkpoint_every={steps}",
        f"train.log_every={max(1, steps // LOGGED)}",
        "train.preview_every=0",
        f"data.source={args.source!r}",
        f"data.store={args.store!r}",
        *ablation.overrides,
        *args.set,
        *arm.overrides,
    ]
    if arm.encoder:
        overrides += _encode(args, arm.encoder)
    sampling = dict(arm.sampling) | ({"steps": 1} if args.smoke else {})
    about: dict[str, Any] = {
        "overrides": overrides if ablation.config else [],
        "sampling": sampling,
        "base": args.base,
        "prompts": prompts,
    }
    if (pictures := recall(folder, about)) is not None:
        return pictures
    started = time.monotonic()
    folders = [args.base]
    if ablation.config:
        config = load_config(str(CONFIGS / ablation.config), overrides)
        train_arm(config, folder / "run")
        above = [args.base] if config.is_super_resolution else []
        folders = [*above, str(folder / "run")]
    model = load(*folders, encoder_weights=args.encoder_weights)
    if not ablation.config:
        model = part_up_to(model, BASE_RESOLUTION)
    pictures = draw_arm(model, prompts, 1000 * seed, sampling, args.batch_size)
    keep(folder, about, pictures, started)
    return pictures


def _encode(args: argparse.Namespace, name: str) -> list[str]:
    """Returns the config's settings of an encoder; its store is filled if missing."""
    encoder, weights = find_encoder(name, args.encoder_weights, args.out / "encoders")
    store = args.out / "stores" / name
    width = embed(encoder, weights, args.source, MAX_LENGTH, store)
    return [
        f"text.encoder={encoder}",
        f"text.weights_path={weights!r}",
        f"text.width={width}",
        f"data.store={str(store)!r}",
    ]


def _words(scores: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {values.mean():.3f}" for name, values in scores.items())
