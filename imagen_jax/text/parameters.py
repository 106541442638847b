"""From the tensors of a checkpoint to an encoder's parameters, leaf by leaf.

Each encoder says where its leaves come from as a table of `Leaf`. Checkpoints have the
tensors of each layer apart, ours are stacked for `lax.scan`; kernels are (in, out), but
(out, in) in the transformers library.

T5-XXL has 19 GB of float32 weights. So a leaf is stacked tensor by tensor into an array
of its final size and handed on (to the accelerator) before the next one is begun: the
host holds one leaf and one tensor at a time.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from imagen_jax.errors import UserError
from imagen_jax.text.layers import Params

Tensors = Mapping[str, np.ndarray]
"""Tensors by name; may read each one only when it is asked for."""

Place = Callable[[str, np.ndarray], Array]
"""(path, finished leaf) -> the array to compute with, on one device or many."""

Convert = Callable[[np.ndarray], np.ndarray]


def to_device(path: str, leaf: np.ndarray) -> Array:
    """Returns the leaf on the default device, its type kept."""
    del path
    return jax.device_put(leaf)


def unchanged(tensor: np.ndarray) -> np.ndarray:
    """Returns the tensor itself."""
    return tensor


class Leaf(NamedTuple):
    """Where one array of the parameters comes from.

    Attributes:
      path: its place in the parameters, e.g. "layers/attention/query/kernel".
      names: of its tensors; several are stacked along a new leading axis.
      shape: of each of these tensors, as stored.
      convert: from such a tensor to its part of the leaf.
      stacked: a leading axis is made, be it for one layer only.
    """

    path: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    convert: Convert = unchanged
    stacked: bool = False


def one(path: str, name: str, *shape: int, convert: Convert = unchanged) -> Leaf:
    """Returns a leaf that is one tensor."""
    return Leaf(path, (name,), shape, convert)


def per_layer(
    path: str, name: str, num_layers: int, *shape: int, convert: Convert = unchanged
) -> Leaf:
    """Returns a leaf stacked over the layers; "{i}" in `name` is the layer's number."""
    names = tuple(name.replace("{i}", str(i)) for i in range(num_layers))
    return Leaf(f"layers/{path}", names, shape, convert, stacked=True)


def dense_layers(
    path: str, name: str, num_layers: int, fan_in: int, fan_out: int, bias: bool = True
) -> list[Leaf]:
    """Returns the leaves of a torch.nn.Linear of every layer."""
    kernel = f"{name}.weight"
    leaves = [
        per_layer(
            f"{path}/kernel", kernel, num_layers, fan_out, fan_in, convert=np.transpose
        )
    ]
    if bias:
        leaves.append(per_layer(f"{path}/bias", f"{name}.bias", num_layers, fan_out))
    return leaves


def read_params(
    tensors: Tensors, leaves: Iterable[Leaf], place: Place = to_device
) -> Params:
    """Returns the parameters, nested by the parts of their paths.

    Args:
      tensors: names beyond those of the leaves are ignored.
      leaves: the table of the encoder.
      place: called once for each finished leaf, in their order.

    Raises:
      UserError: naming every tensor that is missing, has another shape, or is not
        floating point. To find them all, the remaining ones are then read too.
    """
    params: Params = {}
    faults: list[str] = []
    for leaf in leaves:
        _add(params, leaf, tensors, place, faults)
    if faults:
        raise UserError(
            f"the weights do not fit the encoder: {'; '.join(faults)}; give the "
            "weights and the config.json of one model"
        )
    return params


def nested_shapes(leaves: Iterable[Leaf]) -> Params:
    """Returns what `read_params` would, with each leaf's shape in its place."""
    shapes: Params = {}
    for leaf in leaves:
        node = shapes
        *parents, last = leaf.path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        # Without memory of its own, so that converting it costs none.
        part = leaf.convert(np.broadcast_to(np.float32(0), leaf.shape)).shape
        node[last] = (len(leaf.names), *part) if leaf.stacked else part
    return shapes


def _add(
    params: Params, leaf: Leaf, tensors: Tensors, place: Place, faults: list[str]
) -> None:
    array = None
    for i, name in enumerate(leaf.names):
        array = _fill(array, i, _take(tensors, name, leaf.shape, faults), leaf)
    if faults or array is None:
        return
    *parents, last = leaf.path.split("/")
    for parent in parents:
        params = params.setdefault(parent, {})
    params[last] = place(leaf.path, array)


def _take(
    tensors: Tensors, name: str, shape: tuple[int, ...], faults: list[str]
) -> np.ndarray | None:
    """Returns the tensor, or None after any fault, this one noted."""
    if name not in tensors:
        faults.append(f"there is no tensor {name}")
        return None
    tensor = tensors[name]
    if tensor.shape != shape:
        faults.append(f"tensor {name} has the shape {tensor.shape}, expected {shape}")
    elif not jnp.issubdtype(tensor.dtype, np.floating):
        faults.append(f"tensor {name} is {tensor.dtype}, expected floating point")
    return None if faults else tensor


def _fill(
    array: np.ndarray | None, i: int, tensor: np.ndarray | None, leaf: Leaf
) -> np.ndarray | None:
    """Returns the leaf's array with part i in it; made when the first part comes."""
    if tensor is None:
        return None
    part = leaf.convert(tensor)
    if not leaf.stacked:
        return np.ascontiguousarray(part)
    if array is None:
        array = np.empty((len(leaf.names), *part.shape), part.dtype)
    if part.dtype != array.dtype:  # some publish a few layers in another type
        array = array.astype(np.float32)
    array[i] = part
    return array


def read_config_keys(path: str | os.PathLike) -> dict[str, Any]:
    """Returns what is in a config.json of the transformers library.

    Raises:
      UserError: if it cannot be read or is no JSON object.
    """
    try:
        keys = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; the config.json of a model must "
            "lie beside its weights"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; fetch it again") from error
    if not isinstance(keys, dict):
        raise UserError(f"{path} is not a JSON object; give a model's config.json")
    return keys


def select(
    path: str | os.PathLike, keys: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the values of some keys under our own names.

    Args:
      path: of the config.json, for the message.
      keys: its content.
      names: ours -> the key's in the file.

    Raises:
      UserError: naming every key that is missing.
    """
    missing = [name for name in names.values() if name not in keys]
    if missing:
        raise UserError(
            f"{path} has no key {', '.join(missing)}; give the config.json that was "
            "published with the weights"
        )
    return {ours: keys[name] for ours, name in names.items()}


def require(
    path: str | os.PathLike, keys: Mapping[str, Any], required: Mapping[str, Any]
) -> None:
    """Refuses a network that differs from ours; a key that is left out agrees.

    Raises:
      UserError: naming every key with another value than `required`.
    """
    others = [
        f"{key} is {keys[key]!r}; this encoder has {value!r} only"
        for key, value in required.items()
        if keys.get(key, value) != value
    ]
    if others:
        raise UserError(f"{path}: {', '.join(others)}")


def check_heads(path: str | os.PathLike, width: int, num_heads: int) -> None:
    """Refuses a number of heads that does not divide the width."""
    if width % num_heads:
        raise UserError(
            f"{path}: hidden_size is {width}, num_attention_heads {num_heads}; heads "
            "must divide the width"
        )
