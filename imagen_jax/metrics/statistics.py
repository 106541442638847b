"""What a set of pictures looks like to an extractor, and the file that keeps it.

A reference is such a file: .npz with

    manifest    JSON: data set, split, pictures (count, sizes, crop, formats, hash),
                extractor (network, hash of its weights, input size, resize), which rows
                the features are of, and a hash of the arrays
    mean, covariance    float64, of all pictures
    features    float32 [n d], of all pictures or of a recorded random part
    log_probs   float32 [n classes], if the network has them

so that any figure of `imagen_jax.metrics.comparison` can be made from two of them.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imagen_jax.errors import UserError
from imagen_jax.features.extractor import Extractor, extract_all
from imagen_jax.metrics.moments import Gaussian, Moments
from imagen_jax.metrics.pictures import PictureFolder, Survey
from imagen_jax.version import __version__

FORMAT = 1
KEEP = 10_000
"""Features kept by default: 80 MB of Inception's; KID and recall need no more."""


class Statistics(NamedTuple):
    """A set of pictures as described by an extractor.

    Attributes:
      manifest: see above; JSON.
      gaussian: moments of all pictures' features.
      features: [n d] float32, rows in the order of the files.
      log_probs: [m classes] float32 of all pictures, or None.
    """

    manifest: dict[str, Any]
    gaussian: Gaussian
    features: Float[np.ndarray, "n d"]
    log_probs: Float[np.ndarray, "m classes"] | None


def make_statistics(
    pictures: PictureFolder,
    extractor: Extractor,
    *,
    dataset: str,
    split: str,
    keep: int = KEEP,
    seed: int = 0,
    batch_size: int = 32,
) -> Statistics:
    """Returns the statistics of a folder; its pictures are read once, batch by batch.

    Args:
      pictures: the folder.
      extractor: describes them.
      dataset: what the pictures are of, for the manifest: "COCO 2014", "samples".
      split: "val", say.
      keep: at most this many rows of features are kept, drawn by `seed`.
      seed: of the rows that are kept.
      batch_size: pictures at a time.

    Raises:
      UserError: fewer than 2 pictures, a picture that cannot be read, or pictures of
        mixed sizes without a crop.
    """
    count = len(pictures.files)
    if count < 2:
        raise UserError(
            f"{pictures.folder} has {count} picture; give at least 2, as a covariance "
            f"needs, and more than {extractor.width} for one of full rank"
        )
    chosen = np.random.default_rng(seed).permutation(count)[:keep]
    is_chosen = np.isin(np.arange(count), chosen)
    survey, moments = Survey(pictures), Moments(extractor.width)
    features, log_probs = [], []
    for found in extract_all(extractor, survey.read(), batch_size):
        pooled = np.asarray(found.pooled)
        features.append(pooled[is_chosen[moments.count :][: len(pooled)]])
        moments.add(pooled)
        if found.log_probs is not None:
            log_probs.append(np.asarray(found.log_probs))
    manifest = {
        "format": FORMAT,
        "made_by": f"imagen_jax {__version__}",
        "dataset": dataset,
        "split": split,
        "pictures": survey.manifest(),
        "extractor": extractor.identity,
        "features": {"count": len(chosen), "of": count, "seed": seed},
    }
    return _sealed(
        Statistics(
            manifest,
            moments.gaussian(),
            np.concatenate(features),
            np.concatenate(log_probs) if log_probs else None,
        )
    )


def write_statistics(path: Path, statistics: Statistics) -> None:
    """Writes the file, under another name until it is whole.

    Raises:
      UserError: it cannot be written.
    """
    manifest = np.array(json.dumps(statistics.manifest))
    arrays = {"manifest": manifest, **_arrays(statistics)}
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another --out"
        ) from error


def read_statistics(path: Path) -> Statistics:
    """Returns what `write_statistics` has written.

    Raises:
      UserError: the file is missing, damaged, changed or of another format.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            manifest = json.loads(str(arrays["manifest"]))
            gaussian = Gaussian(
                arrays["mean"], arrays["covariance"], manifest["pictures"]["count"]
            )
            log_probs = arrays["log_probs"] if "log_probs" in arrays else None
            statistics = Statistics(manifest, gaussian, arrays["features"], log_probs)
            is_whole = manifest["format"] == FORMAT and manifest[
                "arrays_sha256"
            ] == _hash(statistics)
    except FileNotFoundError as error:
        raise UserError(
            f"there is no reference {path}; make one with "
            "`python -m imagen_jax.evaluate statistics`"
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
    ) as e:
        raise UserError(
            f"cannot read {path} ({type(e).__name__}); it must be a file of "
            "`python -m imagen_jax.evaluate statistics`: make it again"
        ) from e
    if not is_whole:
        raise UserError(
            f"{path} is not as it was written, or of another format than {FORMAT}; "
            "make it again"
        )
    return statistics


def _arrays(statistics: Statistics) -> dict[str, np.ndarray]:
    arrays = {
        "mean": statistics.gaussian.mean,
        "covariance": statistics.gaussian.covariance,
        "features": statistics.features,
    }
    if statistics.log_probs is not None:
        arrays["log_probs"] = statistics.log_probs
    return arrays


def _hash(statistics: Statistics) -> str:
    digest = hashlib.sha256()
    for name, array in _arrays(statistics).items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _sealed(statistics: Statistics) -> Statistics:
    """Returns the statistics, their manifest with the hash of the arrays."""
    manifest = statistics.manifest | {"arrays_sha256": _hash(statistics)}
    return statistics._replace(manifest=manifest)
