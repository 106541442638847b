"""Real photographs through the whole pipeline: the landscapes of a game.

Debian's `endless-sky-data` (public domain and CC BY-SA) is used where it is installed,
or downloaded by apt-get into .cache and unpacked there. Elsewhere the tests skip.
"""

import collections
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_jax.data import images
from imagen_jax.data.embedding_store import EmbeddingStore, Manifest, write_store
from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.pipeline import BatchMaker, iterate
from imagen_jax.data.sources.opening import open_source
from imagen_jax.interfaces import TextEmbeddings
from tests.data.sources.archives import write_tar

pytestmark = pytest.mark.slow

LAND = "usr/share/games/endless-sky/images/land"
CACHE = Path(__file__).parent.parent.parent / ".cache" / "endless-sky"
BATCH_SIZE = 19


def download():
    """Returns whether the package could be unpacked into `CACHE`."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    CACHE.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(
        ["apt-get", "download", "endless-sky-data"],
        cwd=CACHE,
        capture_output=True,
        check=False,
    )
    for package in CACHE.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, CACHE], check=True)
        package.unlink()
    return fetched.returncode == 0


@pytest.fixture(scope="module")
def photographs():
    """File name -> (JPEG, caption)."""
    folders = [root / LAND for root in (Path("/"), CACHE)]
    if not any(folder.is_dir() for folder in folders) and not download():
        pytest.skip("needs Debian's endless-sky-data, or apt-get and the network")
    folder = next(folder for folder in folders if folder.is_dir())
    found = {}
    for path in sorted(folder.glob("*.jpg")):
        label = re.match("[a-z]+", path.name)
        assert label is not None
        found[path.stem] = (path.read_bytes(), f"a photograph: {label[0]}")
    assert len(found) >= 228
    return found


def write_all(folder, photographs):
    """Returns an input of an index of each kind, with a third of the pictures each."""
    names = [*photographs]
    thirds = [names[i::3] for i in range(3)]
    members = []
    for name in thirds[0]:
        jpeg, caption = photographs[name]
        members += [(f"{name}.txt", caption.encode()), (f"{name}.jpg", jpeg)]
    rows = [photographs[name] for name in thirds[1]]
    table = pa.table({"jpg": [jpeg for jpeg, _ in rows], "text": [c for _, c in rows]})
    pq.write_table(table, folder / "b.parquet", row_group_size=50)
    (folder / "c").mkdir()
    for name in thirds[2]:
        (folder / "c" / f"{name}.jpg").write_bytes(photographs[name][0])
        (folder / "c" / f"{name}.txt").write_text(photographs[name][1])
    tar = write_tar(folder / "a.tar", members)
    return [tar, str(folder / "b.parquet"), str(folder / "c")]


@pytest.mark.parametrize("resolution", [64, 256])
def test_an_epoch_from_files_to_batches(tmp_path, photographs, resolution):
    inputs = write_all(tmp_path, photographs)
    options = IndexOptions(min_size=256, max_aspect=3.0, decode=True)
    manifest, _ = build_index(inputs, str(tmp_path / "index"), options)
    num = manifest.num_records
    assert num + sum(manifest.dropped.values()) == len(photographs)
    captions = sorted({caption for _, caption in photographs.values()})
    rows = (
        (caption, np.full((2, 4), i + 1, "bfloat16"))
        for i, caption in enumerate(captions)
    )
    write_store(tmp_path / "store", Manifest("fake", "", "", 4, 8), rows)
    store = EmbeddingStore(tmp_path / "store")

    source = open_source(f"index:{tmp_path}/index")
    seen: collections.Counter = collections.Counter()
    for host in range(2):
        maker = BatchMaker(
            source,
            lambda captions: TextEmbeddings(*store.lookup(captions)),
            resolution=resolution,
            batch_size=2 * BATCH_SIZE,
            seed=1,
            shard=((host,), 2),
        )
        for batch in iterate(maker, 0, -(-num // (2 * BATCH_SIZE))):
            assert batch.image.shape == (BATCH_SIZE, resolution, resolution, 3)
            assert batch.text.mask.sum(1).tolist() == [2] * BATCH_SIZE
            labels = batch.text.embed[:, 0, 0].astype(int)
            pairs = zip(labels, batch.image, strict=True)
            seen.update((int(label), picture.tobytes()) for label, picture in pairs)
        assert not maker.bad
    expected = {
        (
            captions.index(source[i].caption) + 1,
            images.decode_square(source[i].image, resolution).tobytes(),
        )
        for i in range(num)
    }
    assert set(seen) == expected  # each photograph, with its own caption


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reducing_in_the_decoder_is_the_box_filter_on_photographs(photographs, scale):
    resolution, errors = 360 // scale, []
    for jpeg, _ in photographs.values():
        picture = images.decode(jpeg)
        height, width = (size // scale for size in picture.shape[:2])
        if min(height, width) != resolution:
            continue
        # The central square at multiples of the scale.
        top, left = (scale * ((s - resolution) // 2) for s in (height, width))
        side = scale * resolution
        square = np.ascontiguousarray(picture[top : top + side, left : left + side])
        exact = images.box_downsample(square, scale)
        fast = images.decode_square(jpeg, resolution)
        errors.append(np.abs(fast.astype(float) - exact))
    assert len(errors) >= 228
    means = [error.mean() for error in errors]
    # Of 255 levels: little more than the rounding. What is more is where the exact way
    # clips pixels before it averages them, and at edges of colours.
    assert np.mean(means) < 0.5
    assert max(means) < 1.5
    assert np.median([np.quantile(error, 0.999) for error in errors]) <= 3
