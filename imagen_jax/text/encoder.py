"""The one interface to the frozen text encoders, and the choice of one by name.

An encoder gives a caption's sequence of last hidden states, without pooling, with the
padded positions zero and masked. Imagen keeps it frozen, so a data set's embeddings
are computed once and stored (arXiv:2205.11487, section 2.1).
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.text import bert, minilm
from imagen_jax.text.tokenizer import JsonTokenizer

NAMES = ("minilm",)

ReadTensors = Callable[[Path], Mapping[str, np.ndarray]]
"""A reader of weights: `imagen_jax.weights.safetensors.read_safetensors`."""


class Tokenizer(Protocol):
    """Captions to tokens, padded to `max_length`.

    Attributes:
      num_truncated: captions cut short since it was made.
    """

    num_truncated: int

    def __call__(self, captions: list[str]) -> TextTokens:
        """Returns numpy ids and mask, `[len(captions), max_length]`."""
        ...


class TextEncoder(NamedTuple):
    """A loaded encoder, and what an embedding store must remember of it.

    Attributes:
      name: the name it is chosen by.
      width: width d of its hidden states.
      max_length: tokens n per caption, padded and masked.
      tokenizer: which tokenizer file it is, as "FILE sha256:HASH".
      weights_sha256: hash of the weights file, in hex.
      tokenize: captions to numpy tokens.
      encode: tokens to float32 embeddings; jitted. Batches are padded to a power of
        two, so a prompt more or less does not mean another compile.
    """

    name: str
    width: int
    max_length: int
    tokenizer: str
    weights_sha256: str
    tokenize: Tokenizer
    encode: Callable[[TextTokens], TextEmbeddings]


def load_encoder(name: str, max_length: int, read_tensors: ReadTensors) -> TextEncoder:
    """Returns the encoder, its weights on the default device.

    Args:
      name: one of `NAMES`.
      max_length: tokens per caption, special tokens included, at least 3.
      read_tensors: given by the caller, because rooms of one level do not import each
        other.

    Raises:
      UserError: for an unknown name, a length that the encoder cannot take, weights
        that cannot be had or a package that is missing.
    """
    match name:
        case "minilm":
            return load_bert(name, minilm.fetch(), max_length, read_tensors)
        case _:
            raise UserError(f"there is no text encoder {name!r}; known: {NAMES}")


def load_bert(
    name: str, folder: Path, max_length: int, read_tensors: ReadTensors
) -> TextEncoder:
    """Returns a BERT of any size.

    Args:
      name: what the encoder is called in configs and stores.
      folder: holds model.safetensors, config.json and tokenizer.json as the
        transformers library writes them.
      max_length: see `load_encoder`.
      read_tensors: see `load_encoder`.

    Raises:
      UserError: as `load_encoder`, and if the files do not belong together.
    """
    config = bert.read_config(folder / "config.json")
    if max_length > config.max_positions:
        raise UserError(
            f"max_length is {max_length}; {name} has {config.max_positions} positions, "
            "so give at most that"
        )
    tokenize = JsonTokenizer(folder / "tokenizer.json", max_length)
    weights = folder / "model.safetensors"
    params = bert.params_from_tensors(read_tensors(weights), config)
    return TextEncoder(
        name=name,
        width=config.width,
        max_length=max_length,
        tokenizer=f"tokenizer.json sha256:{_sha256(folder / 'tokenizer.json')}",
        weights_sha256=_sha256(weights),
        tokenize=tokenize,
        encode=_encode_fn(jax.device_put(params), config),
    )


def encode_captions(
    encoder: TextEncoder, captions: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each caption with its embedding, bfloat16 `[n_valid, d]`, in order.

    The last batch is filled up, so that one compile serves all.

    Args:
      encoder: from `load_encoder`.
      captions: embedded exactly as given; read lazily, a batch at a time.
      batch_size: captions per call of the encoder, at least 1.
    """
    captions = iter(captions)
    while batch := list(itertools.islice(captions, batch_size)):
        filled = batch + [""] * (batch_size - len(batch))
        embed, mask = map(np.asarray, encoder.encode(encoder.tokenize(filled)))
        for i, caption in enumerate(batch):
            yield caption, embed[i, mask[i]].astype(ml_dtypes.bfloat16)


def _encode_fn(
    params: bert.BertParams, config: bert.BertConfig
) -> Callable[[TextTokens], TextEmbeddings]:
    # Parameters are an argument: closed over, they would be compiled in as constants.
    states_fn = jax.jit(bert.hidden_states, static_argnames="config")

    def encode(tokens: TextTokens) -> TextEmbeddings:
        b = len(tokens.ids)
        fill = ((0, (1 << (b - 1).bit_length()) - b), (0, 0))
        ids, mask = np.pad(tokens.ids, fill), np.pad(tokens.mask, fill)
        embed = states_fn(params, ids, mask, config=config)
        return TextEmbeddings(embed[:b], jnp.asarray(tokens.mask))

    return encode


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
