"""The one interface to the frozen text encoders, and the loading of one by name.

An encoder gives a caption's sequence of hidden states, without pooling, with the padded
positions zero and masked. Imagen keeps it frozen, so a data set's embeddings are
computed once and stored (arXiv:2205.11487, section 2.1).

A caption without any token (the empty one) is the null text, whatever the encoder would
say of it: zero embeddings, mask True at position 0 only (trap T25).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.text import minilm
from imagen_jax.text.catalog import CATALOG, NAMES
from imagen_jax.text.layers import Params
from imagen_jax.text.network import (
    Network,
    OpenedWeights,
    open_network,
    read_parameters,
)
from imagen_jax.text.parameters import Place, to_device
from imagen_jax.text.tokenizer import Tokenizer, WithinVocabulary, load_tokenizer

MIN_BUCKET = 16
DTYPES = ("float32", "bfloat16")

StatesFn = Callable[
    [Params, Int[Array, "b n"], Bool[Array, "b n"]],
    TextEmbeddings,
]
"""(params, ids, mask) -> embeddings; pure, to run inside another jitted function."""


class TextEncoder(NamedTuple):
    """A loaded encoder, and what an embedding store must remember of it.

    Attributes:
      name: the name it is chosen by.
      width: width d of its hidden states.
      max_length: tokens n per caption, padded and masked.
      tokenizer: which vocabulary it is, as "FILE sha256:HASH".
      cleaning: what is done to captions first, see `imagen_jax.text.cleaning`.
      weights_sha256: hash of the parameters' values, in hex; equal for all formats
        that hold the same ones.
      tokenize: captions to numpy tokens.
      encode: tokens to embeddings of the compute type; jitted. Batches are padded to a
        power of two and cut to a `bucket` of the longest caption, so a prompt more or
        a word more does not mean another compile.
      params: the parameters, where they were placed.
      states_fn: what `encode` computes, pure, for a job that encodes as it goes.
    """

    name: str
    width: int
    max_length: int
    tokenizer: str
    cleaning: str
    weights_sha256: str
    tokenize: Tokenizer
    encode: Callable[[TextTokens], TextEmbeddings]
    params: Params
    states_fn: StatesFn

    def identity(self) -> dict[str, str | int]:
        """Returns the fields that must agree for two embeddings to be comparable."""
        return {
            "encoder": self.name,
            "weights_sha256": self.weights_sha256,
            "tokenizer": self.tokenizer,
            "cleaning": self.cleaning,
            "max_length": self.max_length,
            "width": self.width,
        }


def load_encoder(
    name: str,
    max_length: int,
    *,
    find_weights: Callable[[str], Path],
    open_weights: Callable[[Path], OpenedWeights],
    weights: str = "",
    tokenizer: str = "",
    cleaning: str = "none",
    dtype: str = "float32",
    place: Place = to_device,
) -> TextEncoder:
    """Returns the encoder, its weights placed.

    Args:
      name: one of `catalog.NAMES`, or any other if `weights` are given.
      max_length: tokens per caption, special tokens included.
      find_weights: path or hub name -> file or folder, and `open_weights`: that -> its
        tensors; given by the caller, as rooms of one level do not import each other.
      open_weights: see `find_weights`.
      weights: file, folder, T5X checkpoint or hub name; "" takes the catalog's.
      tokenizer: file or folder of the vocabulary; "" takes the one beside the weights.
      cleaning: a kind of `imagen_jax.text.cleaning`.
      dtype: "float32" or "bfloat16", the parameters' type; see `text.layers`.
      place: (path, numpy leaf in `dtype`) -> its array on the devices.

    Raises:
      UserError: for a name, length, type or cleaning that is not allowed, weights or a
        vocabulary that cannot be had or do not fit, or a package that is missing.
    """
    if dtype not in DTYPES:
        raise UserError(
            f"the text encoder's dtype is {dtype!r}; give {' or '.join(DTYPES)} (T5 "
            "overflows in float16)"
        )
    opened = open_weights(_find(name, weights, find_weights))
    network = open_network(name, opened)
    config = network.config
    _check_length(name, max_length, config.max_positions)
    tokenize = WithinVocabulary(
        load_tokenizer(
            network.architecture, tokenizer or opened.folder, max_length, cleaning
        ),
        config.vocab_size,
    )
    params, weights_sha256 = read_parameters(network, opened.tensors, dtype, place)
    states_fn = _states_fn(network)
    return TextEncoder(
        name=name,
        width=config.width,
        max_length=max_length,
        tokenizer=tokenize.id,
        cleaning=cleaning,
        weights_sha256=weights_sha256,
        tokenize=tokenize,
        encode=_encode_fn(params, states_fn, max_length),
        params=params,
        states_fn=states_fn,
    )


def bucket(length: int, max_length: int) -> int:
    """Returns the smallest of 16, 32, 64, ... and `max_length` that holds `length`.

    Args:
      length: valid tokens of the longest caption, at most `max_length`.
      max_length: the largest bucket, a power of two or not.
    """
    return min(max(MIN_BUCKET, 1 << max(length - 1, 0).bit_length()), max_length)


def _find(name: str, weights: str, find_weights: Callable[[str], Path]) -> Path:
    if weights:
        return find_weights(weights)
    if name not in CATALOG:
        raise UserError(
            f"there is no text encoder {name!r}; known: {', '.join(NAMES)}; one by "
            "another name needs the path or hub name of its weights"
        )
    repository = CATALOG[name].repository
    return find_weights(repository) if repository else minilm.fetch()


def _check_length(name: str, max_length: int, limit: int | None) -> None:
    if limit and max_length > limit:
        raise UserError(
            f"max_length is {max_length}; {name} has {limit} positions, so give at "
            "most that"
        )


def _states_fn(network: Network) -> StatesFn:
    def states(
        params: Params, ids: Int[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> TextEmbeddings:
        embed = network.hidden_states(params, ids, mask, network.config)
        is_null = ~mask.any(axis=1)  # their embeddings are zero already
        return TextEmbeddings(embed, mask.at[:, 0].set(mask[:, 0] | is_null))

    return states


def _encode_fn(
    params: Params, states_fn: StatesFn, max_length: int
) -> Callable[[TextTokens], TextEmbeddings]:
    @jax.jit
    def padded_states(
        params: Params, ids: Int[Array, "b n"], mask: Bool[Array, "b n"]
    ) -> TextEmbeddings:
        embed, mask = states_fn(params, ids, mask)
        missing = max_length - ids.shape[1]
        return TextEmbeddings(
            jnp.pad(embed, ((0, 0), (0, missing), (0, 0))),
            jnp.pad(mask, ((0, 0), (0, missing))),
        )

    def encode(tokens: TextTokens) -> TextEmbeddings:
        ids, mask = np.asarray(tokens.ids), np.asarray(tokens.mask)
        b = len(ids)
        length = int(np.flatnonzero(mask.any(axis=0)).max(initial=-1)) + 1
        n = bucket(length, max_length)
        fill = ((0, (1 << (b - 1).bit_length()) - b), (0, 0))
        # Parameters are an argument: closed over, they would be compiled in.
        embed, mask = padded_states(
            params, np.pad(ids[:, :n], fill), np.pad(mask[:, :n], fill)
        )
        return TextEmbeddings(embed[:b], mask[:b])

    return encode
