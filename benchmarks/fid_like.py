"""How far FID-like distances move for faults that are put in on purpose.

    python benchmarks/fid_like.py

512 drawings of the quickstart's set at 64 pixels, 8 of each caption: one half is the
reference, the other is judged as it is, blurred and with noise. EfficientNet-Lite0 of
the extra `eval`; prints a JSON line for each. Needs the extras quickstart and eval.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.fid import score_folder
from imagen_jax.evaluation.real_pictures import write_real_pictures
from imagen_jax.features.opening import open_extractor
from imagen_jax.metrics.pictures import open_folder
from imagen_jax.metrics.statistics import make_statistics, write_statistics

COUNT, SIZE, NOISE = 512, 64, 10


def main() -> None:
    """Draws, damages, scores."""
    rng = np.random.default_rng(0)

    def noisy(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image) + rng.normal(0, NOISE, (SIZE, SIZE, 3))
        return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))

    faults: dict[str, Callable[[Image.Image], Image.Image]] = {
        "none": lambda image: image,
        "Gaussian blur of 1 pixel": lambda image: image.filter(
            ImageFilter.GaussianBlur(1)
        ),
        f"noise of {NOISE} / 255": noisy,
    }
    captions = [pair.caption for pair in openmoji.pairs("default")]
    extractor = open_extractor("efficientnet-lite0")
    with tempfile.TemporaryDirectory() as folder:
        real = write_real_pictures(Path(folder) / "all", captions, COUNT, SIZE)
        files = sorted(real.rglob("*.png"))  # caption after caption, in rounds
        first, other = files[: COUNT // 2], files[COUNT // 2 :]
        described = make_statistics(
            open_folder(_write(Path(folder) / "reference", first, faults["none"])),
            extractor,
            dataset="OpenMoji on grounds",
            split="first half",
        )
        reference = Path(folder) / "reference.npz"
        write_statistics(reference, described)
        for name, fault in faults.items():
            judged = _write(Path(folder) / name.replace("/", "of"), other, fault)
            result = score_folder(judged, reference, extractor)
            row = {
                "fault": name,
                "pictures": len(other),
                result["frechet"]["name"]: round(result["frechet"]["value"], 1),
                f"{result['kernel']['name']} x 1000": round(
                    1000 * result["kernel"]["value"], 1
                ),
            }
            print(json.dumps(row), flush=True)


def _write(
    folder: Path, files: list[Path], fault: Callable[[Image.Image], Image.Image]
) -> Path:
    """Returns a folder with the pictures, each with the fault."""
    folder.mkdir()
    for file in files:
        fault(Image.open(file)).save(folder / file.name)
    return folder


if __name__ == "__main__":
    main()
