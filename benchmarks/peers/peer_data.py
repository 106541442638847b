"""The peer's worker of `data.py`: FOLDER RESOLUTION WORKERS DECODER.

PyTorch's DataLoader over webdataset, batches made in the worker processes (the way its
documentation recommends). Decoders, all to the central square by an area filter:

  cv2           cv2.imdecode, cv2.resize INTER_AREA
  cv2-reduced   the same, the JPEG reduced while it is decoded
  pillow        Image.open, resize BOX
  pillow-draft  the same after Image.draft
"""

import glob
import io
import os
import sys

import cv2
import numpy as np
import torch
import webdataset
from PIL import Image

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from data_turns import serve  # noqa: E402

BATCH_SIZE, MAX_LENGTH = 64, 64
REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def square(height: int, width: int) -> tuple[int, int, int]:
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def decode_cv2(data: bytes, resolution: int, reduced: bool) -> np.ndarray:
    flag = cv2.IMREAD_COLOR
    if reduced:
        # The size stands in the header, which Pillow reads in some microseconds.
        factor = min(Image.open(io.BytesIO(data)).size) // resolution
        scale = max((s for s in REDUCED if s <= factor), default=1)
        flag = REDUCED.get(scale, flag)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    top, left, side = square(*picture.shape[:2])
    picture = picture[top : top + side, left : left + side]
    if side != resolution:
        size = (resolution, resolution)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_pillow(data: bytes, resolution: int, reduced: bool) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if reduced:
        scale = min(image.size) // resolution
        image.draft("RGB", (image.width // scale, image.height // scale))
    top, left, side = square(image.height, image.width)
    image = image.convert("RGB").resize(
        (resolution, resolution),
        Image.Resampling.BOX,
        box=(left, top, left + side, top + side),
    )
    return np.asarray(image)


def main() -> None:
    folder, resolution, workers, decoder = sys.argv[1:]
    resolution, workers = int(resolution), int(workers)
    library, _, reduced = decoder.partition("-")
    decode = {"cv2": decode_cv2, "pillow": decode_pillow}[library]
    cv2.setNumThreads(0)
    torch.set_num_threads(1)

    def example(sample: dict) -> tuple:
        embed = np.load(io.BytesIO(sample["npy"]))
        padded = np.zeros((MAX_LENGTH, embed.shape[1]), embed.dtype)
        mask = np.zeros(MAX_LENGTH, bool)
        padded[: len(embed)], mask[: len(embed)] = embed, True
        return decode(sample["jpg"], resolution, bool(reduced)), padded, mask

    tars = sorted(glob.glob(f"{folder}/*.tar"))
    dataset = (
        webdataset.WebDataset(tars, resampled=True, shardshuffle=False)
        .shuffle(200)
        .map(example)
        .batched(BATCH_SIZE)
        .map(lambda batch: [torch.from_numpy(np.stack(field)) for field in batch])
    )
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=workers, prefetch_factor=2
    )
    serve(iter(loader), BATCH_SIZE, num_ready=2 * workers)


if __name__ == "__main__":
    main()
