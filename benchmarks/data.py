r"""Races the input pipeline against PyTorch's DataLoader with webdataset.

    python benchmarks/data.py --peer_python=.venv-data/bin/python [--num=5000]

Both read the same tars of JPEGs (quality 90, 512 pixels on the short side) with a text
embedding for each, and make shuffled batches of 64 and of 256-pixel uint8 squares with
padded embeddings and masks. Ours reads them at random through an index and an embedding
store; the peer reads them in the order of the tars, with the embedding as a member
beside the picture. Both have as many workers as there are cores.

The peer decodes in four ways (`peers/peer_data.py`), two of which let the JPEG decoder
reduce the picture, as ours does. All workers start, warm up and take turns, so that
whatever else the machine does hits all alike. Prints a table of the medians, and writes
one JSON line a worker and resolution to benchmarks/results/data.jsonl.

The peer's environment needs: pip install torch==2.13.0 webdataset \
    opencv-python-headless pillow
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
from PIL import Image

from imagen_jax.data.embedding_store import Manifest, write_store
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions

HERE = Path(__file__).parent
PEERS = ("cv2", "cv2-reduced", "pillow", "pillow-draft")
RESOLUTIONS = (64, 256)
SHORT_SIDE = 512
PER_TAR = 500
NUM_TOKENS, WIDTH = 24, 1024  # of T5-large; padded to 64 by both


def main() -> None:
    """Makes the data, runs the race and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer_python", required=True, help="of the peer's venv")
    parser.add_argument("--num", type=int, default=5000, help="pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="a turn")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--data_dir", default="/tmp/imagen_jax-benchmark-data")
    flags = parser.parse_args()
    folder = Path(flags.data_dir, str(flags.num))
    make_data(folder, flags.num)
    results = HERE / "results" / "data.jsonl"
    results.parent.mkdir(exist_ok=True)
    with open(results, "w") as file:
        for resolution in RESOLUTIONS:
            rows = race(flags, folder, resolution)
            file.writelines(json.dumps(row) + "\n" for row in rows)
            print(table(rows))
    print(f"written: {results}")


# --- data ----------------------------------------------------------------------------


def make_data(folder: Path, num: int) -> None:
    """Writes tars, an index of them and an embedding store, unless they are there."""
    if (folder / "index" / "index.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"making {num} pictures in {folder}", file=sys.stderr)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, num, PER_TAR):
            numbers = range(first, min(first + PER_TAR, num))
            with tarfile.open(folder / f"{first:06}.tar", "w") as archive:
                for i, jpeg in zip(numbers, pool.map(draw, numbers), strict=True):
                    embedding = io.BytesIO()
                    np.save(embedding, embed(i).astype(np.float16))
                    add(archive, f"{i:06}.jpg", jpeg)
                    add(archive, f"{i:06}.txt", caption(i).encode())
                    add(archive, f"{i:06}.npy", embedding.getvalue())
    manifest = Manifest("benchmark", "", "", WIDTH, 64)
    rows = ((caption(i), embed(i).astype(ml_dtypes.bfloat16)) for i in range(num))
    write_store(folder / "store", manifest, rows)
    build_index([str(folder)], str(folder / "index"), IndexOptions())


def draw(number: int) -> bytes:
    """Returns a JPEG with detail of every size, in the shapes that cameras give."""
    rng = np.random.default_rng(number)
    long_side = int(SHORT_SIDE * rng.choice([1, 4 / 3, 3 / 2, 16 / 9]))
    size = (long_side, SHORT_SIDE) if rng.random() < 0.7 else (SHORT_SIDE, long_side)
    picture = np.full((size[1], size[0], 3), 128, np.float32)
    for cells in (3, 8, 24, 64, 192, SHORT_SIDE):
        noise = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        layer = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        picture += (np.asarray(layer, np.float32) - 127.5) * np.float32(
            1.2 / cells**0.5
        )
    file = io.BytesIO()
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def caption(number: int) -> str:
    """Returns a caption of its own for each picture."""
    return f"picture {number} of many, as long as captions of pictures tend to be"


def embed(number: int) -> np.ndarray:
    """Returns the embedding of a caption's tokens."""
    rng = np.random.default_rng(number)
    return rng.standard_normal((NUM_TOKENS, WIDTH), np.float32)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Appends a member."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))


# --- the race ------------------------------------------------------------------------


def race(flags: argparse.Namespace, folder: Path, resolution: int) -> list[dict]:
    """Returns a row for each worker; ours is the first."""
    arguments = [str(folder), str(resolution), str(flags.workers)]
    ours = [sys.executable, str(HERE / "data_worker.py"), *arguments]
    peer = [flags.peer_python, str(HERE / "peers" / "peer_data.py"), *arguments]
    commands = {"imagen_jax": ours} | {kind: [*peer, kind] for kind in PEERS}
    workers = {name: start(command) for name, command in commands.items()}
    turns: dict[str, list[dict]] = {name: [] for name in workers}
    for _ in range(flags.rounds):
        for name, worker in workers.items():
            turns[name].append(ask(worker, flags.batches))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return [
        {
            "worker": name,
            "resolution": resolution,
            "workers": flags.workers,
            "pictures_per_sec": [turn["pictures"] / turn["wall"] for turn in turns],
            "cpu_ms_per_picture": [
                1e3 * turn["cpu"] / turn["pictures"] for turn in turns
            ],
        }
        for name, turns in turns.items()
    ]


def start(command: list[str]) -> subprocess.Popen:
    """Returns a worker that is warm: it has printed READY."""
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for line in worker.stdout:
        if line.startswith("READY"):
            return worker
    raise SystemExit(f"failed: {' '.join(command)}")


def ask(worker: subprocess.Popen, num_batches: int) -> dict:
    """Returns what a turn of so many batches took."""
    worker.stdin.write(f"{num_batches}\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())


def table(rows: list[dict]) -> str:
    """Returns the medians as text, with their ratios to ours."""
    lines = [
        f"{'to ' + str(rows[0]['resolution']) + ' px':14}pictures/s  ours/this  "
        "CPU ms/picture  this/ours"
    ]
    rate, cpu = (
        [statistics.median(row[key]) for row in rows]
        for key in ("pictures_per_sec", "cpu_ms_per_picture")
    )
    lines += [
        f"{row['worker']:14}{rate[i]:10.0f}{rate[0] / rate[i]:11.2f}"
        f"{cpu[i]:16.2f}{cpu[i] / cpu[0]:11.2f}"
        for i, row in enumerate(rows)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
