"""A folder of samples and a run as the quickstart leaves them, made of real pictures.

The pictures are composed, not sampled: what the report must say of them is known.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from imagen_jax.data.images import box_downsample, encode_png
from imagen_jax.data.sources import openmoji

SEEDS = (0, 1)


def write_manifest(folder: Path, entries: list[dict]) -> None:
    lines = [json.dumps(entry) for entry in entries]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def write_sample(
    folder: Path,
    asked: openmoji.Pair,
    drawn: openmoji.Pair,
    seed: int,
    base_drawn: openmoji.Pair | None = None,
) -> list[dict]:
    """Writes one sample's pictures of both stages; returns its manifest entries."""
    entries = []
    for stage, factor, pair in (("base", 4, base_drawn or drawn), ("sr256", 1, drawn)):
        picture = openmoji.compose_variant(pair, seed, "test", 256)
        file = f"{asked.concept}-{asked.ground}-{seed}-{stage}.png".replace(" ", "_")
        (folder / file).write_bytes(encode_png(box_downsample(picture, factor)))
        entries.append(
            {
                "file": file,
                "prompt": asked.caption,
                "seed": seed,
                "held_out": asked.held_out,
                "stage": stage,
            }
        )
    return entries


@pytest.fixture(scope="session")
def samples_dir(tmp_path_factory) -> Path:
    """32 final pictures of the 16 held-out pairs; 4 concepts are drawn as another.

    At the base stage a fifth concept is drawn as another and a ground is wrong.

    A picture of a pair that is trained on is drawn wrongly too: it must not count.
    """
    folder = tmp_path_factory.mktemp("quickstart") / "samples"
    folder.mkdir()
    pairs = openmoji.pairs("default")
    held_out = [pair for pair in pairs if pair.held_out]
    entries = []
    for index, pair in enumerate(held_out):
        drawn = pair
        if index < 4:
            drawn = pair._replace(concept=held_out[index + 8].concept)
        base_drawn = drawn
        if index == 15:
            base_drawn = held_out[14]
        for seed in SEEDS:
            entries += write_sample(folder, pair, drawn, seed, base_drawn)
    trained = next(pair for pair in pairs if not pair.held_out)
    entries += write_sample(folder, trained, held_out[5], 0)
    write_manifest(folder, entries)
    return folder


@pytest.fixture(scope="session")
def run_dir(samples_dir) -> Path:
    """A run whose super-resolution adds half of the missing detail."""
    folder = samples_dir.parent / "run"
    (folder / "base").mkdir(parents=True)
    pairs = openmoji.pairs("default")[::11]
    truth = np.stack([openmoji.compose_variant(p, 0, "probe", 256) for p in pairs])
    low_res = np.stack([box_downsample(picture, 4) for picture in truth])
    blurred = low_res.repeat(4, axis=1).repeat(4, axis=2)
    output = ((truth.astype(np.float32) + blurred) / 2).astype(np.uint8)
    np.savez(folder / "sr_probe.npz", truth=truth, low_res=low_res, output=output)
    lines = [{"step": step, "loss": 1 / step} for step in range(10, 201, 10)]
    for line in lines[4::5]:
        accuracy = line["step"] / 400
        line["preview/object_accuracy"] = accuracy
        line["preview/ground_accuracy"] = 2 * accuracy
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "base" / "metrics.jsonl").write_text(text, "utf-8")
    return folder
