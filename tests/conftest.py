"""Settings and fixtures of all tests.

The tests run on 8 virtual CPU devices, so that sharding is real, with fast rather than
clever compilation and a compile cache that the workers and later runs share.
IMAGEN_JAX_TEST_GPU=1 leaves the platform to JAX and runs the tests marked `gpu`.
"""

import gc
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
WANTS_GPU = bool(os.environ.get("IMAGEN_JAX_TEST_GPU"))

CPU_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    # 8 devices on 2 busy cores reach a collective late, not never.
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
)
JAX_SETTINGS = {
    "jax_compilation_cache_dir": str(ROOT / ".cache" / "jax_tests"),
    "jax_persistent_cache_min_compile_time_secs": 0.3,
}
if not WANTS_GPU:
    JAX_SETTINGS["jax_platforms"] = "cpu"

# What takes longest, longest first. Else one worker ends alone with one of them.
LONGEST = (
    "test_mesh_losses",
    "test_multihost",
    "test_bucket_workdir",
    "test_train_folder",
    "test_train_command",
    "test_ablate_command",
    "test_resume_memory",
    "test_golden",
    "test_warm_start",
    "test_loop",
    "test_doctor_command",
)

hypothesis.settings.register_profile(
    "imagen_jax", deadline=None, derandomize=True, max_examples=50
)
hypothesis.settings.load_profile("imagen_jax")


def pytest_configure(config: pytest.Config) -> None:
    """Configures JAX, here and in the processes that tests start, before it starts."""
    if not WANTS_GPU:
        flags = (os.environ.get("XLA_FLAGS", ""), *CPU_FLAGS)
        os.environ["XLA_FLAGS"] = " ".join(flags).strip()
    for name, value in JAX_SETTINGS.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first; skips those marked `gpu` where no GPU is to be used."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
    items = [item for item in items if item.get_closest_marker("gpu")]
    if not items or (WANTS_GPU and jax.default_backend() == "gpu"):
        return
    found = jax.default_backend() if WANTS_GPU else "IMAGEN_JAX_TEST_GPU is not set"
    for item in items:
        item.add_marker(pytest.mark.skip(reason=f"needs a GPU ({found})"))


def pytest_collection_finish() -> None:
    """Keeps what imports have made out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def fill_params() -> Callable[[Any, int], Any]:
    """The function `fill_params(abstract_tree, seed)`; see `_fill_params`."""
    return _fill_params


def _fill_params(abstract_tree: Any, seed: int) -> Any:
    """Returns parameters for a network without compiling its initialisation.

    No leaf is zero or constant, so layers that training starts at zero take part too;
    sizes keep activations near 1. A leaf depends on its path, shape and the seed only.

    Args:
      abstract_tree: shapes and dtypes, from `jax.eval_shape(init, ...)`.
      seed: another seed, other parameters.
    """

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = rng.standard_normal(leaf.shape)
        if name.endswith("scale"):  # of a normalisation layer
            values = 1 + 0.1 * values
        elif len(leaf.shape) < 2:
            values = 0.1 * values
        else:
            values = values / np.sqrt(np.prod(leaf.shape[:-1]))
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, abstract_tree)
