"""What is done to bytes, to trees of settings and to files; all of it by chance."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)

# Wrong types, huge numbers, what leads out of a folder, what breaks a line.
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "x", "a" * 10_000, "../../x", "/etc/passwd", "\0", "💥"),
    *(-1, 0, 1, 3, 10**9, 10**18, 2**63, -(2**70), 0.5, -0.5, 1e-300, 1e308),
    *(float("nan"), float("inf"), [], {}, [[]], [None], [1, "x"], {"kind": []}),
    *("a\nb", "\ud800", ["../x"] * 3, {"": 0}),
)


def pick(rng: np.random.Generator, values: Any) -> Any:
    """Returns one of the values."""
    return values[int(rng.integers(len(values)))]


def damage_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Returns the bytes with one to three things done to them."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(array) + 1))
        length = int(rng.integers(1, 1 + max(1, min(600, len(array)))))
        match int(rng.integers(8)):
            case 0 | 1:  # flipped bits
                for _ in range(int(rng.integers(1, 9))):
                    if array:
                        array[int(rng.integers(len(array)))] ^= 1 << int(
                            rng.integers(8)
                        )
            case 2:  # cut off
                del array[place:]
            case 3:  # a piece lost
                del array[place : place + length]
            case 4:  # a piece twice
                array[place:place] = array[place : place + length]
            case 5:  # zeros, as of a disk that was full
                array[place : place + length] = bytes(
                    len(array[place : place + length])
                )
            case 6:  # noise
                array[place:place] = rng.bytes(length)
            case 7:  # a number of 2, 4 or 8 bytes, of either order
                size = int(pick(rng, (2, 4, 8)))
                word = int(pick(rng, WORDS)) % 2 ** (8 * size)
                order = pick(rng, ("little", "big"))
                array[place : place + size] = word.to_bytes(size, order)
    return bytes(array)


def damage_tree(rng: np.random.Generator, tree: Any) -> Any:
    """Returns a copy of nested dicts and lists with one to three things done to it."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(tree))
        if not places:
            break
        node, key = pick(rng, places)
        match int(rng.integers(5)):
            case 0 | 1:
                node[key] = copy.deepcopy(pick(rng, VALUES))
            case 2:
                del node[key]
            case 3:  # a value from elsewhere
                other, other_key = pick(rng, places)
                if other_key in other if isinstance(other, dict) else True:
                    node[key] = copy.deepcopy(other[other_key])
            case 4:
                if isinstance(node, dict):
                    node[f"{key}{pick(rng, ('', '_', 'x', '.y'))}"] = node[key]
                else:
                    node.append(copy.deepcopy(pick(rng, VALUES)))
    return tree


def _places(tree: Any):
    """Yields (container, key) of everything in a tree."""
    keys = tree if isinstance(tree, dict) else range(len(tree))
    for key in list(keys):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def damage_json(rng: np.random.Generator, data: bytes) -> bytes:
    """Returns a JSON file whose contents or bytes were damaged."""
    if rng.random() < 0.3:
        return damage_bytes(rng, data)
    tree = damage_tree(rng, json.loads(data))
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def damage_file(rng: np.random.Generator, path: Path) -> None:
    """Damages a file's contents, or takes it away, or puts something in its place."""
    match int(rng.integers(12)):
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            path.mkdir()
        case 2:
            path.unlink()
            path.symlink_to("gone")
        case 3:
            path.write_bytes(b"")
        case _:
            data = path.read_bytes()
            is_json = path.suffix == ".json" and data[:1] == b"{"
            path.write_bytes((damage_json if is_json else damage_bytes)(rng, data))


def files_below(folder: Path) -> list[Path]:
    """Returns all files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
