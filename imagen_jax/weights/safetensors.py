"""Reads safetensors files, the format of the Hugging Face hub.

A file is a JSON header (name, type, shape, offsets) followed by the raw tensors, so
reading runs no code from the file, unlike a pickle.
"""

import os
from pathlib import Path

import numpy as np

from imagen_jax.errors import UserError


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns every tensor of the file by its name; types are kept as stored.

    Args:
      path: the file; bfloat16 tensors come out as `ml_dtypes.bfloat16`.

    Raises:
      UserError: if the file is missing or is not a complete safetensors file, or the
        package `safetensors` is not installed.
    """
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise UserError(
            "reading weights needs the Python package safetensors; it comes with "
            'pip install "imagen_jax[quickstart]"'
        ) from error
    if not Path(path).is_file():
        raise UserError(f"there is no weights file {path}; give a .safetensors file")
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}); delete "
            "it and fetch it again"
        ) from error
