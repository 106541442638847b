"""Where fetched files are kept on this machine."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Returns $IMAGEN_JAX_CACHE, or ~/.cache/imagen_jax where it is not set."""
    path = os.environ.get("IMAGEN_JAX_CACHE") or "~/.cache/imagen_jax"
    return Path(path).expanduser()
