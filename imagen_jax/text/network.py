"""From opened weights to a network: which of the three, its sizes, its parameters.

The files decide: T5X checkpoints are T5, others say what they are in config.json.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float

from imagen_jax.errors import UserError
from imagen_jax.text import bert, clip, t5, t5x
from imagen_jax.text.catalog import CATALOG, MODEL_TYPES, Architecture
from imagen_jax.text.layers import Params
from imagen_jax.text.parameters import Place, Tensors, read_config_keys


@runtime_checkable  # the tests check annotations at run time
class OpenedWeights(Protocol):
    """What `imagen_jax.weights.folder.open_weights` returns."""

    @property
    def tensors(self) -> Tensors:
        """Tensors by the names of the format, read when asked for."""
        ...

    @property
    def format(self) -> Literal["transformers", "t5x"]:
        """Whose names these are."""
        ...

    @property
    def folder(self) -> Path:
        """Where config.json and the tokenizer may lie beside the weights."""
        ...


class Network(NamedTuple):
    """A network whose sizes are known and whose parameters are not read yet.

    Attributes:
      architecture: which of the three.
      config: its sizes.
      params_fn: (tensors, config, place) -> parameters.
      hidden_states: (params, ids, mask, config) -> states [b n d].
    """

    architecture: Architecture
    config: bert.BertConfig | clip.ClipConfig | t5.T5Config
    params_fn: Callable[..., Params]
    hidden_states: Callable[..., Float[Array, "b n d"]]


def open_network(name: str, opened: OpenedWeights) -> Network:
    """Returns the network that the files describe.

    Args:
      name: the encoder's; one of the catalog must be what the catalog says.
      opened: its weights.

    Raises:
      UserError: if the files describe none of ours, or another than `name` is.
    """
    if opened.format == "t5x":
        source = opened.folder
        config = t5x.config_from_t5x(opened.tensors)
        network = Network("t5", config, t5x.params_from_t5x, t5.hidden_states)
    else:
        source = opened.folder / "config.json"
        network = _from_config(source)
    if name in CATALOG and CATALOG[name].architecture != network.architecture:
        raise UserError(
            f"{source} describes a {network.architecture} encoder, but {name} is a "
            f"{CATALOG[name].architecture}; give weights of that, or another name"
        )
    return network


def _from_config(path: Path) -> Network:
    model_type = read_config_keys(path).get("model_type")
    architecture = MODEL_TYPES.get(str(model_type))
    match architecture:
        case "bert":
            module = bert
        case "clip":
            module = clip
        case "t5":
            module = t5
        case None:
            raise UserError(
                f"{path}: model_type is {model_type!r}; the text encoders are "
                f"{', '.join(MODEL_TYPES)}"
            )
    return Network(
        architecture,
        module.read_config(path),
        module.params_from_tensors,
        module.hidden_states,
    )


def read_parameters(
    network: Network, tensors: Tensors, dtype: str, place: Place
) -> tuple[Params, str]:
    """Returns the placed parameters, and the sha256 of their values in hex.

    The hash is over each leaf's path, shape and values as float32, before the cast; so
    it is the same for every format, and for every type that holds the values exactly.

    Args:
      network: from `open_network`.
      tensors: of the same weights.
      dtype: what the parameters are cast to, e.g. "bfloat16".
      place: (path, leaf in `dtype`) -> its array on the devices.

    Raises:
      UserError: naming all tensors that are missing or do not fit.
    """
    hashes: dict[str, str] = {}

    def place_hashed(path: str, leaf: np.ndarray) -> Array:
        hashes[path] = _hash_values(leaf)
        return place(path, leaf.astype(dtype, copy=False))

    params = network.params_fn(tensors, network.config, place_hashed)
    lines = "".join(f"{path} {hashes[path]}\n" for path in sorted(hashes))
    return params, hashlib.sha256(lines.encode()).hexdigest()


def _hash_values(leaf: np.ndarray) -> str:
    digest = hashlib.sha256(repr(leaf.shape).encode())
    values = leaf.reshape(-1)
    chunk = 2**22  # bounds the memory of the cast
    for start in range(0, values.size, chunk):
        digest.update(values[start : start + chunk].astype("<f4", copy=False).data)
    return digest.hexdigest()
