"""Draws sheet.png: a probe of the 1024-pixel stage, whole and in detail.

    python docs/openmoji_sr_1024/sheet.py --probe=PROBE.npz

PROBE.npz is written by `python -m imagen_jax.upscale`. A row per picture: the stage's
whole output, then the same detail of the bicubic enlargement, the output and the truth.
"""

import argparse
from pathlib import Path

import numpy as np

from imagen_jax.data.sources.openmoji import ATTRIBUTION
from imagen_jax.evaluation.grid import write_grid
from imagen_jax.evaluation.super_resolution import sr_metrics, upsample_bicubic

NUM_PICTURES = 3
DETAIL = 192  # side of a detail in pixels; shown pixel for pixel


def main() -> None:
    """Reads the probe, writes the sheet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True, type=Path)
    probe = np.load(parser.parse_args().probe)
    truth, output, low_res = probe["truth"], probe["output"], probe["low_res"]
    bicubic = upsample_bicubic(low_res, truth.shape[1])
    gain = sr_metrics(output, truth, low_res).gain_db
    images, captions = [], []
    for i in np.linspace(0, len(truth) - 1, NUM_PICTURES).astype(int):
        window = busiest_window(truth[i])
        images += [output[i], bicubic[i][window], output[i][window], truth[i][window]]
        captions += [
            "output, 1024 x 1024",
            "bicubic",
            f"output: {gain[i]:+.1f} dB over bicubic",
            "truth",
        ]
    write_grid(
        Path(__file__).parent / "sheet.png",
        images,
        captions,
        4,
        cell=DETAIL,
        title=f"256 to 1024, held-out drawings; mean gain {gain.mean():+.1f} dB",
        footer=ATTRIBUTION,
    )


def busiest_window(image: np.ndarray) -> tuple[slice, slice]:
    """Returns the square of side DETAIL with the strongest edges."""
    edges = np.abs(np.diff(image.astype(int), axis=1)).sum(axis=2)
    corners = range(0, image.shape[0] - DETAIL, DETAIL // 2)
    top, left = max(
        ((y, x) for y in corners for x in corners),
        key=lambda at: edges[at[0] : at[0] + DETAIL, at[1] : at[1] + DETAIL].sum(),
    )
    return slice(top, top + DETAIL), slice(left, left + DETAIL)


if __name__ == "__main__":
    main()
