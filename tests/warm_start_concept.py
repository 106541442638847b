"""Teaches the demo weights a 17th concept, and counts what the other 16 lose.

    ./launch/quickstart.sh      (once: the pictures of the 16)
    python -m tests.warm_start_concept --out=runs/warm_start

What a user with pictures of something new would do: a folder of pictures with captions
beside them, an embedding store that has these captions too, and a run that starts from
the weights of docs/demo. A mixture shows the old pictures beside the new ones, or the
network would forget them. Pictures of the new concept on one ground are held out.

The base stage draws the held-out prompts of all 17 before and after, under the same
noise, and `EmojiScorer` names what it sees. It prints the result and writes it to
OUT/warm_start.json; the status is 1 if a target is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.data.images import encode_png
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.prompt_score import Score, score_samples
from imagen_jax.evaluation.samples import Sample

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "docs" / "demo" / "base"
SET = "default17"
VARIANTS = 48  # pictures per pair, as many as the quickstart has
REPLAY = 2  # old pictures for each new one
SETTINGS = {
    "optimizer.learning_rate": 2e-3,
    "optimizer.warmup_steps": 20,
    "train.num_steps": 250,
    "train.checkpoint_every": 250,
    "train.preview_every": 0,
}
MAX_MINUTES, MIN_NEW, MAX_LOSS = 5.0, 0.60, 0.10


def new_pairs() -> list[openmoji.Pair]:
    """Returns the pairs of the 17th concept."""
    known = openmoji.concepts("default")
    return [pair for pair in openmoji.pairs(SET) if pair.concept not in known]


def draw_new_concept(folder: Path, variants: int) -> int:
    """Draws the pairs to be trained on, with captions beside; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = [pair for pair in new_pairs() if not pair.held_out]
    for pair in trained:
        for variant in range(variants):
            picture = openmoji.compose_variant(pair, variant, "train", 256)
            file = folder / f"{pair.concept}_{pair.ground}_{variant}.png"
            file.write_bytes(encode_png(picture))
            file.with_suffix(".txt").write_text(pair.caption)
    return variants * len(trained)


def asked_prompts() -> list[str]:
    """Returns the held-out prompts of all, then the trained ones of the new concept."""
    held_out = [pair.caption for pair in openmoji.pairs(SET) if pair.held_out]
    return held_out + [pair.caption for pair in new_pairs() if not pair.held_out]


def score_folder(folder: Path) -> tuple[Score, list[openmoji.Pair]]:
    """Returns what the base stage's pictures in a folder show, and should show."""
    pair_of = {pair.caption: pair for pair in openmoji.pairs(SET)}
    samples = []
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        pair = pair_of[entry["prompt"]]
        samples.append(
            Sample(folder / entry["file"], pair, entry["seed"], entry["stage"])
        )
    return score_samples(EmojiScorer(SET), samples), [s.pair for s in samples]


def summarise(score: Score, pairs: Sequence[openmoji.Pair]) -> dict[str, Any]:
    """Returns object accuracies: of the old 16, of the new one, of each held-out pair.

    The old ones are asked for by held-out pairs only; of the new one the held-out pair
    and the trained pairs count apart.
    """
    right = score.object_right
    new = np.array([pair.concept == new_pairs()[0].concept for pair in pairs])
    held_out = np.array([pair.held_out for pair in pairs])

    def share(chosen: np.ndarray) -> float:
        return round(float(right[chosen].mean()), 4)

    concepts = np.array([pair.concept for pair in pairs])
    return {
        "old": share(~new),
        "new_held_out": share(new & held_out),
        "new_trained": share(new & ~held_out),
        "ground": round(float(score.ground_right.mean()), 4),
        "per_concept": {
            str(concept): share((concepts == concept) & held_out)
            for concept in np.unique(concepts)
        },
    }


def verdict(before: dict, after: dict, minutes: float) -> tuple[dict, bool]:
    """Returns each target with the value, and whether all are met."""
    loss = round(before["old"] - after["old"], 4)
    targets = {
        "minutes": (minutes, f"<= {MAX_MINUTES:g}", minutes <= MAX_MINUTES),
        "new_held_out": (
            after["new_held_out"],
            f">= {MIN_NEW:g}",
            after["new_held_out"] >= MIN_NEW,
        ),
        "old_loss": (loss, f"< {MAX_LOSS:g}", loss < MAX_LOSS),
    }
    table = {
        name: {"value": value, "target": target, "met": met}
        for name, (value, target, met) in targets.items()
    }
    return table, all(entry["met"] for entry in table.values())


def command(name: str, *flags: str) -> None:
    """Runs a command of the package, one virtual device per core as the quickstart."""
    devices = 2 if (os.cpu_count() or 1) > 1 else 1
    environment = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    process = [sys.executable, "-m", f"imagen_jax.{name}", *flags]
    subprocess.run(process, cwd=ROOT, env=environment, check=True)


def sample(weights: Path, out: Path, num: int) -> dict[str, Any]:
    """Draws `num` pictures of each prompt with these weights; returns their score."""
    prompts = out.parent / "prompts.txt"
    prompts.write_text("\n".join(asked_prompts()) + "\n")
    command(
        "sample",
        f"--workdirs={weights}",
        f"--prompts={prompts}",
        f"--num={num}",
        f"--samples={out}",
        f"--out={out}.png",
        "--batch_size=40",
    )
    return summarise(*score_folder(out))


def teach(run: Path, out: Path) -> float:
    """Trains from the demo weights; returns the minutes, compilation included."""
    draw_new_concept(out / "new", VARIANTS)
    captions = out / "captions.txt"
    captions.write_text("\n".join(pair.caption for pair in openmoji.pairs(SET)) + "\n")
    store = out / "store"
    command("embed", f"--captions={captions}", f"--store={store}", "--max_length=16")
    old = f"tfds:{run}/data/openmoji/default/1.0.0:train"
    start = time.monotonic()
    command(
        "train",
        f"--config={ROOT}/configs/quickstart_base.py",
        f"--workdir={out}/base",
        f"--init_from={DEMO}",
        f"--config.data.source=mixture:{REPLAY}={old};1=folder:{out}/new",
        f"--config.data.store={store}",
        *(f"--config.{name}={value}" for name, value in SETTINGS.items()),
    )
    return round((time.monotonic() - start) / 60, 2)


def main() -> int:
    """Runs all of it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.warm_start_concept")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quickstart")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "warm_start")
    parser.add_argument("--num", type=int, default=12, help="pictures per prompt")
    flags = parser.parse_args()
    out = flags.out.absolute()
    if (out / "base").exists():
        parser.error(f"{out}/base exists already; remove it, or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    before = sample(DEMO, out / "before", flags.num)
    minutes = teach(flags.run.absolute(), out)
    after = sample(out / "base", out / "after", flags.num)
    targets, met = verdict(before, after, minutes)
    result = {
        "concept": new_pairs()[0].concept,
        "pictures_per_prompt": flags.num,
        "replay": REPLAY,
        "settings": SETTINGS,
        "targets": targets,
        "before": before,
        "after": after,
    }
    (out / "warm_start.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, entry in targets.items():
        print(f"{name}: {entry['value']} (target {entry['target']})")
    print(f"before {before}\nafter {after}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
