"""The kinds of cases of `tests/fuzz.py`.

damage       what is done to bytes, to trees of settings and to files
configs      config files, overrides, config.json, lines that name a source
pictures     single pictures; folders of them with captions
archives     tars and Parquet files of records; indices of them
tables       files of captions, metrics, probes
stores       embedding stores
checkpoints  bundles, weights, checkpoints
planted      faults that must be found; for the test of the fuzzer itself

A case is a function (random generator, empty folder) -> FINE, DROPPED or REFUSED. It
may raise a UserError, which is REFUSED too. Any other exception is a fault, and so is
a `LostError`: something has gone without being counted.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from imagen_jax.errors import UserError

FINE, DROPPED, REFUSED = "fine", "dropped", "refused"

Case = Callable[[np.random.Generator, Path], str]


class LostError(Exception):
    """Something was left out, or changed, and nothing said so."""


@contextlib.contextmanager
def taken(sound: bool) -> Iterator[None]:
    """Makes it a fault if what is `sound` is refused within the block."""
    try:
        yield
    except UserError as error:
        if sound:
            raise LostError(f"refused though nothing is wrong: {error}") from error
        raise
