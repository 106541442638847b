"""Config files, overrides, config.json, and lines that name a source."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from imagen_jax.config import StageConfig
from imagen_jax.config_file import from_dict, load_config, read_config, to_dict
from imagen_jax.data.sources.opening import open_source
from imagen_jax.stage import build_stage
from tests.fuzzing import FINE, LostError
from tests.fuzzing.damage import VALUES, damage_bytes, damage_tree, pick

CONFIGS = Path(__file__).parent.parent.parent / "configs"
HEADER = """import ml_collections

nan, inf = float("nan"), float("inf")


def get_config():
    return ml_collections.ConfigDict("""

TEXTS = (
    *("", "'", "\\", "(" * 300, "[" * 3000, "1" * 5000, "1e999", "0x10", "1_000"),
    *(
        "None",
        "{1: 2}",
        "{[]: 1}",
        "b'x'",
        "9**9**9",
        "__import__('os')",
        "-",
        "\ud800",
    ),
    *("[1, [2]]", "[True]", "(1,)", "...", "'a' 'b'", "lambda: 0", "1 if 1 else 2"),
)
SOURCES = (
    *("index:/none", "folder:/none", "folder:{folder}", "synthetic:4:8"),
    *("mixture:1=synthetic:4:8;2=synthetic:3:8", "mixture:synthetic:4", "tars:x"),
    *("synthetic:" + "9" * 30, "mixture:1e-300=synthetic:4;1e300=synthetic:3"),
    *("folder:{folder}:train", "index:{folder}:held_out"),
)


@functools.cache
def _shipped() -> tuple[dict[str, Any], ...]:
    files = sorted(CONFIGS.glob("*.py"))
    return tuple(to_dict(load_config(str(file))) for file in files)


def damaged_config(rng: np.random.Generator, folder: Path) -> str:
    """A config file, its overrides or a config.json."""
    tree = pick(rng, _shipped())
    path = folder / "config.py"
    overrides = []
    match int(rng.integers(4)):
        case 0:
            text = f"{HEADER}{damage_tree(rng, tree)!r})\n"
            path.write_text(text, "utf-8", errors="surrogatepass")
        case 1:
            path.write_bytes(damage_bytes(rng, f"{HEADER}{tree!r})\n".encode()))
        case 2:
            path.write_text(f"{HEADER}{tree!r})\n")
            overrides = [_override(rng, tree) for _ in range(int(rng.integers(1, 4)))]
        case 3:
            return _damaged_config_json(rng, folder, tree)
    return _check(load_config(str(path), overrides))


def _override(rng: np.random.Generator, tree: dict[str, Any]) -> str:
    key, node = "", tree
    while isinstance(node, dict) and node and (not key or rng.random() < 0.9):
        name = pick(rng, sorted(node))
        key, node = f"{key}.{name}" if key else name, node[name]
    if rng.random() < 0.2:
        key += pick(rng, (".x", ".", "x", "..y", " "))
    value = pick(rng, TEXTS) if rng.random() < 0.5 else repr(pick(rng, VALUES))
    return f"{key}{pick(rng, ('=', '=', '=', '', '=='))}{value}"


def _damaged_config_json(
    rng: np.random.Generator, folder: Path, tree: dict[str, Any]
) -> str:
    path = folder / "config.json"
    if rng.random() < 0.7:
        path.write_text(json.dumps(damage_tree(rng, tree)))
    else:
        path.write_bytes(damage_bytes(rng, json.dumps(tree).encode()))
    return _check(read_config(path))


def _check(config: StageConfig) -> str:
    """What is accepted must be a config in every respect."""
    if from_dict(to_dict(config)) != config:
        raise LostError("the config is not what its own dict describes")
    hash(config)
    build_stage(config)
    return FINE


def source_line(rng: np.random.Generator, folder: Path) -> str:
    """A line that names a source, damaged."""
    text = pick(rng, SOURCES).format(folder=folder)
    if rng.random() < 0.7:
        data = damage_bytes(rng, text.encode())
        text = data.decode("utf-8", "surrogateescape")
    if not text.startswith("tfds:"):  # may ask the network for a data set
        len(open_source(text))
    return FINE
