r"""Error of the samplers against 1,000 steps, and object accuracy at 20 steps.

    python benchmarks/solver_error.py --out=docs/sampling

Needs the extras `quickstart` (text encoder, scores) and `notebook` (the plot). The
model is the quickstart's base stage at 64 pixels, with its own guidance and
thresholding.

Error: the samplers without noise of their own all solve one ODE, so from one initial
noise they go to one picture. The curve is the root mean square difference, in levels of
255, to that picture as DPM-Solver++ 2M draws it in 1,000 steps. The axis is network
evaluations, of which Heun's method makes two a step.

Accuracy: samplers with noise cannot be compared picture by picture, so all are scored
by whether the drawing shows the object asked for, at 20 steps and the ancestral sampler
also at 250, with one set of prompts and seeds.

The network is compiled once, and the samplers' loops run operation by operation around
it: to compile each loop for each number of steps would take longer than to run them.

Prints rows as they are known, and writes solver_error.json and solver_error.png. With
--pictures=0 or --scored=0 the errors or the accuracy stay what they are in that file.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.bundle import load_stage
from imagen_jax.data.sources import openmoji
from imagen_jax.diffusion.augmentation import to_uint8
from imagen_jax.diffusion.guidance import null_text
from imagen_jax.diffusion.heun import LOWEST_CORRECTED
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.diffusion.spacing import logsnr_grid
from imagen_jax.diffusion.stepping import Picture
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.intervals import mean_interval
from imagen_jax.evaluation.prompt_score import score_pictures
from imagen_jax.interfaces import Conditioning, Prediction, TextEmbeddings
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.noise import FIRST_STEP, INITIAL_NOISE, noise_of
from imagen_jax.sampling.sampler import make_predict, sampling_params
from imagen_jax.stage import Params
from imagen_jax.text_source import open_text

DEMO = Path(__file__).parent.parent / "docs" / "demo" / "base"
CURVES = (
    {"kind": "ddim"},
    {"kind": "heun"},
    {"kind": "dpmpp_2m"},
    {"kind": "dpmpp_2m", "spacing": "uniform_logsnr"},
    {"kind": "dpmpp_2m", "spacing": "karras"},
    {"kind": "unipc"},
)
STEPS = (5, 10, 20, 50, 100, 250)
REFERENCE_STEPS = 1000
FEW_STEPS, MANY_STEPS = 20, 250
SCORED = (
    {"kind": "ddpm"},
    {"kind": "ddim"},
    {"kind": "heun"},
    {"kind": "dpmpp_2m"},
    {"kind": "dpmpp_2m", "stochasticity": 1.0},
    {"kind": "unipc"},
)
BATCH = 16


class Model:
    """A stage and prompts to draw with it, its network compiled once per batch size."""

    def __init__(self, workdir: Path, prompts: Sequence[str]):
        """Loads the stage and embeds the prompts."""
        self.stage, self.params = load_stage(workdir)
        source = open_text(self.stage.config.text, "", make_mesh())
        self.text = source.embed(prompts)
        self._predict = jax.jit(self._predict_once)
        self._noise = jax.jit(self._draw_noise)

    @property
    def _size(self) -> int:
        return self.stage.config.resolution

    def _predict_once(
        self, params: Params, text: TextEmbeddings, z: Picture, logsnr: jax.Array
    ) -> Prediction:
        """Returns what the package's sampler would predict, at its first step."""
        null = null_text(*text.embed.shape, text.embed.dtype)
        texts = (Conditioning(*text), Conditioning(*null), None)
        config = self.stage.config.sampler
        settings = sampling_params(config, np.zeros(1))
        predict = make_predict(self.stage, config.threshold, params, texts, settings)
        return predict(z, logsnr, jnp.int32(0))

    def _draw_noise(self, seeds: jax.Array, purpose: jax.Array) -> Picture:
        return noise_of(seeds, self._size)(purpose, (self._size, self._size, 3))

    def draw(self, changes: dict[str, Any], rows: range) -> Float[np.ndarray, "..."]:
        """Returns the pictures of some prompts in [-1, 1], a row's number as its seed.

        Args:
          changes: kind, num_steps, and spacing and stochasticity where not the default.
          rows: a batch of the prompts.
        """
        settings = SamplerConfig(**changes)
        grid = logsnr_grid(self.stage.schedule, settings.num_steps, settings.spacing)
        text = jax.tree.map(lambda leaf: leaf[np.array(rows)], self.text)
        seeds = jnp.array(rows, jnp.uint32)

        def predict(z, logsnr, index):
            with jax.disable_jit(False):
                return self._predict(self.params, text, z, logsnr)

        def noise_fn(index):
            with jax.disable_jit(False):
                return self._noise(seeds, FIRST_STEP + index)

        z_1 = self._noise(seeds, jnp.int32(INITIAL_NOISE))
        with jax.disable_jit():
            pictures = sample_fn(settings.kind)(
                predict, z_1, grid, noise_fn, settings.stochasticity
            )
        return np.clip(pictures, -1.0, 1.0)


def name_of(changes: dict[str, Any]) -> str:
    """Returns the label of a sampler's settings."""
    name = changes["kind"] + (" SDE" if changes.get("stochasticity") else "")
    return name + (f", {changes['spacing']}" if "spacing" in changes else "")


def evaluations(model: Model, changes: dict[str, Any], steps: int) -> int:
    """Returns how often the network runs; Heun's corrected steps count twice."""
    spacing = changes.get("spacing", "uniform_t")
    levels = np.asarray(logsnr_grid(model.stage.schedule, steps, spacing))
    corrected = int((levels[:-2] > LOWEST_CORRECTED).sum())
    return steps + (corrected if changes["kind"] == "heun" else 0)


def solver_errors(model: Model, count: int) -> list[dict[str, Any]]:
    """Returns and prints a row per sampler and number of steps."""
    pictured = range(count)
    reference = model.draw({"kind": "dpmpp_2m", "num_steps": REFERENCE_STEPS}, pictured)
    rows = []
    for changes in CURVES:
        for steps in STEPS:
            pictures = model.draw({**changes, "num_steps": steps}, pictured)
            error = 127.5 * float(np.sqrt(np.mean(np.square(pictures - reference))))
            row = {
                "sampler": name_of(changes),
                "steps": steps,
                "evaluations": evaluations(model, changes, steps),
                "rms_error": round(error, 3),
            }
            print(*row.values(), sep="\t", flush=True)
            rows.append(row)
    return rows


def accuracies(model: Model, pairs: Sequence[openmoji.Pair]) -> list[dict[str, Any]]:
    """Returns a row per sampler, object accuracy and its gap; prints them on the way.

    The gap is to the ancestral sampler with many steps, in points, with the 95 %
    interval of a mean of paired differences.
    """
    scorer = EmojiScorer("default")
    compared = [({"kind": "ddpm"}, MANY_STEPS), *((c, FEW_STEPS) for c in SCORED)]
    right: list[list[bool]] = [[] for _ in compared]
    rows = []
    for start in range(0, len(pairs), BATCH):
        batch = range(start, min(start + BATCH, len(pairs)))
        wanted = [pairs[row] for row in batch]
        for found, (changes, steps) in zip(right, compared, strict=True):
            pictures = model.draw({**changes, "num_steps": steps}, batch)
            images: UInt8[np.ndarray, "b h w 3"] = np.asarray(
                to_uint8(jnp.asarray(pictures))
            )
            found += score_pictures(scorer, images, wanted).object_right.tolist()
        rows = [
            accuracy_row(name_of(changes), steps, found, right[0])
            for found, (changes, steps) in zip(right, compared, strict=True)
        ]
        print(len(right[0]), *(row["object_accuracy"] for row in rows), flush=True)
    return rows


def accuracy_row(
    sampler: str, steps: int, found: Sequence[bool], many: Sequence[bool]
) -> dict[str, Any]:
    """Returns a sampler's accuracy and its gap to that of many steps, in points."""
    gap = 100.0 * (np.array(found, np.float64) - np.array(many, np.float64))
    interval = mean_interval(gap)
    return {
        "sampler": sampler,
        "steps": steps,
        "object_accuracy": round(float(np.mean(found)), 4),
        "gap_points": round(float(gap.mean()), 1),
        "gap_low": round(interval.low, 1),
        "gap_high": round(interval.high, 1),
    }


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws error over evaluations, one line per sampler."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    names = dict.fromkeys(row["sampler"] for row in rows)
    for name, marker in zip(names, "osD^vP", strict=False):
        curve = [
            (row["evaluations"], row["rms_error"])
            for row in rows
            if row["sampler"] == name
        ]
        axes.plot(*zip(*curve, strict=True), marker=marker, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="network evaluations (each a guided pair)",
        ylabel=f"RMS difference to {REFERENCE_STEPS} steps, levels of 255",
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Parses the flags, draws, scores, and writes the table and the plot."""
    parser = argparse.ArgumentParser(description="Error and accuracy of the samplers.")
    parser.add_argument("--workdir", type=Path, default=DEMO, help="a base stage")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4, help="for the errors")
    parser.add_argument("--scored", type=int, default=480, help="for the accuracy")
    flags = parser.parse_args()
    path = flags.out / "solver_error.json"
    flags.out.mkdir(parents=True, exist_ok=True)
    held_out = [pair for pair in openmoji.pairs("default") if pair.held_out]
    count = max(flags.pictures, flags.scored)
    pairs = [held_out[i % len(held_out)] for i in range(count)]
    model = Model(flags.workdir, [pair.caption for pair in pairs])

    report = json.loads(path.read_text()) if path.exists() else {}
    sampler = model.stage.config.sampler
    report |= {
        "model": model.stage.config.name,
        "guidance_weight": sampler.guidance_weight,
        "threshold": sampler.threshold,
        "reference": f"dpmpp_2m, {REFERENCE_STEPS} steps, uniform_t",
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    if flags.pictures:
        errors = solver_errors(model, flags.pictures)
        report |= {"pictures": flags.pictures, "errors": errors}
        plot(errors, flags.out / "solver_error.png")
    if flags.scored:
        scores = accuracies(model, pairs[: flags.scored])
        report |= {"scored_pictures": flags.scored, "accuracy": scores}
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
