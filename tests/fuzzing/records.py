"""Records to be damaged, and what must hold of any index that is made of them."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from imagen_jax.data import images
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.pipeline import BatchMaker
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.indexed import IndexedSource
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings
from tests.fuzzing import DROPPED, FINE, LostError

RESOLUTION = 8


def make_png(rng: np.random.Generator, side: int = 0) -> bytes:
    """Returns a PNG of noise, 8 to 15 pixels wide if no side is given."""
    side = side or int(rng.integers(RESOLUTION, 16))
    file = io.BytesIO()
    noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def write_records(rng: np.random.Generator, folder: Path) -> list[str]:
    """Writes 2 to 6 pictures with captions; returns the pictures' names."""
    names = [f"{i:03}.png" for i in range(int(rng.integers(2, 7)))]
    for name in names:
        (folder / name).write_bytes(make_png(rng))
        (folder / f"{name[:-4]}.txt").write_text(f"picture {name}")
    return names


def check_index(
    rng: np.random.Generator,
    folder: Path,
    inputs: list[str],
    num_records: int,
    options: IndexOptions,
    exact: bool,
) -> str:
    """Indexes and trains on the inputs; checks that all are kept or counted.

    Args:
      rng: decides the order of a batch.
      folder: where the index goes.
      inputs: archives or a folder.
      num_records: that are in them.
      options: of the index.
      exact: each record is counted by itself; else damage to the archive is one count
        for all that it hides.

    Raises:
      UserError: no record is kept, or an input cannot be used.
      LostError: the counts do not say where a record has gone.
    """
    out = str(folder / "index")
    manifest, _ = build_index(inputs, out, options)
    source = IndexedSource(out)
    kept, dropped = len(source), sum(manifest.dropped.values())
    with open(f"{out}/dropped.csv", encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    if len(listed) != dropped:
        raise LostError(f"{dropped} dropped, {len(listed)} in dropped.csv")
    counted = kept + dropped >= num_records if exact else kept >= num_records or dropped
    if not counted:
        raise LostError(f"{kept} kept and {dropped} dropped of {num_records} records")
    bad = _train(rng, source)
    return DROPPED if dropped or bad else FINE


def _train(rng: np.random.Generator, source: IndexedSource) -> int:
    """Returns how many records of an epoch are bad, after making its batch."""
    num_bad = 0
    for i in range(len(source)):
        try:
            images.decode_square(source[i].image, RESOLUTION)
        except BadRecordError:
            num_bad += 1
    maker = BatchMaker(
        source,
        _no_text,
        resolution=RESOLUTION,
        batch_size=len(source),
        seed=int(rng.integers(9)),
        max_bad_share=1.0,
    )
    try:
        batch = maker.batch(0)
    except UserError:
        if num_bad < len(source):
            raise LostError(f"refused with {num_bad} of {len(source)} bad") from None
        return num_bad
    if sum(maker.bad.values()) != num_bad or len(batch.image) != len(source):
        raise LostError(f"{maker.bad} counted, {num_bad} bad")
    return num_bad


def _no_text(captions):
    if not all(captions):
        raise LostError("a record without a caption was kept")
    b = len(captions)
    return TextEmbeddings(np.zeros((b, 1, 1), np.float32), np.ones((b, 1), bool))
