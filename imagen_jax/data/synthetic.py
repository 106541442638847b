"""Coloured shapes made on the fly: a source without files, for tests and smoke runs."""

import numpy as np
from jaxtyping import Bool, Float

from imagen_jax.data import images
from imagen_jax.data.records import Record

COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 70),
    "blue": (50, 80, 210),
    "yellow": (245, 215, 60),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle")


class SyntheticSource:
    """Records such as "a red circle on a blue background"; implements `Source`."""

    def __init__(self, num: int, resolution: int, seed: int = 0):
        """Makes the source.

        Args:
          num: number of records.
          resolution: side of the pictures in pixels.
          seed: of the pictures, at least 0; record i depends on (seed, i) alone.
        """
        self._num = num
        self._resolution = resolution
        self._seed = seed

    def __len__(self) -> int:
        """Returns the number of records."""
        return self._num

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        if not 0 <= index < self._num:
            raise IndexError(f"record {index} of {self._num}")
        rng = np.random.default_rng((self._seed, index))
        colour, ground = rng.choice(sorted(COLOURS), size=2, replace=False)
        shape = rng.choice(SHAPES)
        radius = rng.uniform(0.2, 0.4)
        centre = rng.uniform(radius, 1 - radius, size=2)
        inside = _shape_mask(str(shape), centre, radius, self._resolution)
        picture = np.where(
            inside[..., None], COLOURS[str(colour)], COLOURS[str(ground)]
        ).astype(np.uint8)
        caption = f"a {colour} {shape} on a {ground} background"
        return Record(images.encode_png(picture), caption, f"synthetic[{index}]")


def _shape_mask(
    shape: str, centre: Float[np.ndarray, " 2"], radius: float, resolution: int
) -> Bool[np.ndarray, "r r"]:
    """Returns where the shape is; centre (x, y) and radius are shares of the frame."""
    grid = (np.arange(resolution) + 0.5) / resolution
    x = (grid[None, :] - centre[0]) / radius
    y = (grid[:, None] - centre[1]) / radius
    match shape:
        case "circle":
            return x**2 + y**2 < 1
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) < 0.85
        case "triangle":
            return (y < 0.8) & (2 * np.abs(x) < y + 1)
    raise ValueError(f"shape is {shape!r}; it must be one of {SHAPES}")
