"""A folder in COCO's own layout with a few pictures, for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((40, 30), (24, 36), (32, 32))  # width, height


def write_coco(folder: Path, count: int, year: int = 2014) -> Path:
    """Returns `folder` with `count` pictures of random blobs and two captions each.

    Numbers of pictures and captions are not in the order of the file, as COCO's are.
    """
    rng = np.random.default_rng(year)
    images, captions = [], []
    pictures = folder / f"val{year}"
    pictures.mkdir(parents=True)
    for i in reversed(range(count)):
        number = 42 + 7 * i
        name = f"COCO_val{year}_{number:012d}.jpg" if year == 2014 else f"{number}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize(SIZES[i % 3]).save(pictures / name, quality=95)
        images.append({"id": number, "file_name": name})
        for k, text in enumerate((f"the red fox {i}", f" a cat on\nthe owl {i} .")):
            captions.append({"id": 1000 - 2 * i - k, "image_id": number})
            captions[-1]["caption"] = text
    content = {"images": images, "annotations": captions}
    path = folder / "annotations" / f"captions_val{year}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return folder
