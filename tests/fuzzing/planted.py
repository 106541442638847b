"""Faults that the fuzzer must find; for its own test."""

import os
import time
from pathlib import Path

import numpy as np

from imagen_jax.errors import UserError
from tests.fuzzing import FINE, LostError


def traceback(rng: np.random.Generator, folder: Path) -> str:
    """An exception that is no UserError."""
    raise KeyError("planted")


def loss(rng: np.random.Generator, folder: Path) -> str:
    """Something that has gone."""
    raise LostError("planted")


def crash(rng: np.random.Generator, folder: Path) -> str:
    """The end of the process."""
    os.abort()


def hang(rng: np.random.Generator, folder: Path) -> str:
    """A case that does not end."""
    time.sleep(1000)
    return FINE


def escape(rng: np.random.Generator, folder: Path) -> str:
    """A file outside of the case's folder."""
    (folder.parent / "escaped").write_text("planted")
    return FINE


def silence(rng: np.random.Generator, folder: Path) -> str:
    """A refusal that does not say why."""
    raise UserError(" ")


def fine(rng: np.random.Generator, folder: Path) -> str:
    """No fault."""
    return FINE
