"""What a metric needs to know of the network that describes pictures.

    prepare   one picture, uint8 -> what the network takes, on the host
    extract   a batch of these -> features, jitted, the batch split over the mesh

The identity goes into every manifest: two sets of features belong together only if all
of it agrees.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from imagen_jax.parallel.mesh import num_batch_shards
from imagen_jax.parallel.sharding import batch_sharding, replicated


class Features(NamedTuple):
    """A batch as the network sees it, float32.

    Attributes:
      pooled: [b d], what distances are taken of.
      log_probs: [b classes], logarithms of class probabilities, of a network whose
        classes make an Inception score; else None.
    """

    pooled: Float[Array, "b d"]
    log_probs: Float[Array, "b classes"] | None


class Extractor(NamedTuple):
    """A network with its weights, ready to describe pictures.

    Attributes:
      name: of its Frechet distance as printed: "FID", "FD-DINOv2",
        "FID-like (EfficientNet-Lite0)".
      kernel_name: of its kernel distance as printed: "KID", say.
      identity: name of the network, sha256 of its weights' file, input_size in pixels,
        resize and scaling, for manifests.
      width: d, the number of features.
      prepare: uint8 [h w 3] -> float32 [s s 3], resized and scaled, on the host.
      extract: float32 [b s s 3] -> `Features`, whole on every host; b must be a
        multiple of `multiple`. On many hosts all give the same batch.
      multiple: into how many parts a batch is split.
    """

    name: str
    kernel_name: str
    identity: dict[str, str | int]
    width: int
    prepare: Callable[[np.ndarray], np.ndarray]
    extract: Callable[[np.ndarray], Features]
    multiple: int


def sharded_extract(
    network: Callable[[Any, Float[Array, "b s s 3"]], Features], params: Any, mesh: Mesh
) -> Callable[[np.ndarray], Features]:
    """Returns an `Extractor.extract`: the batch is split, the parameters are whole.

    Args:
      network: (parameters, pictures) -> features; compiled once for each batch size.
      params: a pytree of arrays.
      mesh: its `data` and `fsdp` axes split the batch.
    """
    pictures_sharding, whole = batch_sharding(mesh), replicated(mesh)
    placed = jax.device_put(params, whole)
    compiled = jax.jit(
        network, in_shardings=(whole, pictures_sharding), out_shardings=whole
    )

    def extract(pictures: np.ndarray) -> Features:
        batch = jax.make_array_from_callback(
            pictures.shape, pictures_sharding, pictures.__getitem__
        )
        return compiled(placed, batch)

    return extract


def extract_all(
    extractor: Extractor,
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]],
    batch_size: int = 32,
) -> Iterator[Features]:
    """Yields the features of pictures, batch by batch, as numpy arrays, in order.

    All batches have one size, so that the network is compiled once: the last one is
    filled up with zeros, whose features are left out.

    Args:
      extractor: describes them.
      pictures: of any sizes; read as they are needed.
      batch_size: rounded up to a multiple of `extractor.multiple`.
    """
    size = -(-batch_size // extractor.multiple) * extractor.multiple
    rows: list[np.ndarray] = []
    for picture in pictures:
        rows.append(extractor.prepare(picture))
        if len(rows) == size:
            yield _extract(extractor, rows, size)
            rows = []
    if rows:
        yield _extract(extractor, rows, size)


def _extract(extractor: Extractor, rows: list[np.ndarray], size: int) -> Features:
    batch = np.zeros((size, *rows[0].shape), np.float32)
    batch[: len(rows)] = rows
    found = extractor.extract(batch)
    log_probs = found.log_probs
    return Features(
        np.asarray(found.pooled)[: len(rows)],  # pyright: ignore[reportArgumentType]
        None if log_probs is None else np.asarray(log_probs)[: len(rows)],  # pyright: ignore[reportArgumentType]
    )


def batch_multiple(mesh: Mesh) -> int:
    """Returns `Extractor.multiple` of a mesh."""
    return num_batch_shards(mesh)
