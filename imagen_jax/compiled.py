"""Compiled programs kept on disk: the same version compiles them once only."""

import os

import jax

from imagen_jax.cache import cache_dir

_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # small programs add up too
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def keep_compiled() -> None:
    """Keeps what JAX compiles in $IMAGEN_JAX_CACHE/compiled; for commands.

    Where JAX_COMPILATION_CACHE_DIR is set, the user has chosen, and nothing changes.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
    for name, value in _SETTINGS.items():
        jax.config.update(name, value)
