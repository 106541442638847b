"""Where captions get their embeddings: from a store, or from the encoder itself.

Training reads a store, or runs the encoder inside the job (`text.on_the_fly`); sampling
runs the encoder that a stage was trained with, or reads a store of prompts that another
machine embedded. Both give bfloat16 and the same null text for an empty caption, so a
network cannot tell them apart.

What the embeddings were made by is recorded in a stage's config (`with_identity`), and
is compared from then on: when the run is resumed, and when the stage is sampled.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.sharding import Mesh

from imagen_jax.config import StageConfig, TextConfig
from imagen_jax.data.embedding_store import EmbeddingStore
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.parallel.sharding import batch_sharding, place_on, replicated
from imagen_jax.text.encoder import TextEncoder, load_encoder
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights


class TextSource(NamedTuple):
    """Captions to embeddings, by either way.

    Attributes:
      identity: the fields `config.TEXT_IDENTITY`, of the store or of the encoder.
      embed: captions to embeddings, numpy, bfloat16; "" gives the null text.
      batch_text: captions to what a training batch carries: the same, or tokens.
      encode_fn: tokens to embeddings inside a training job; None for a store.
    """

    identity: Mapping[str, Any]
    embed: Callable[[Sequence[str]], TextEmbeddings]
    batch_text: Callable[[Sequence[str]], TextEmbeddings | TextTokens]
    encode_fn: Callable[[TextTokens], TextEmbeddings] | None


def open_text(config: TextConfig, store: str, mesh: Mesh) -> TextSource:
    """Returns a store of prompts where one is given, else the encoder.

    Args:
      config: of the stage that is sampled; names its encoder.
      store: folder of an embedding store, or "".
      mesh: where the encoder's weights are spread.

    Raises:
      UserError: as `from_store` and `from_encoder`.
    """
    return from_store(config, store) if store else from_encoder(config, mesh)


def open_training_text(config: StageConfig, mesh: Mesh) -> TextSource:
    """Returns what `text.on_the_fly` and `data.store` name; never one for the other.

    Raises:
      UserError: neither or both are set; and as `from_store` and `from_encoder`.
    """
    if config.text.on_the_fly == bool(config.data.store):
        raise UserError(
            f"data.store is {config.data.store!r} and text.on_the_fly "
            f"{config.text.on_the_fly}; give the store that python -m imagen_jax.embed "
            "made, or no store and text.on_the_fly=True"
        )
    return open_text(config.text, config.data.store, mesh)


def from_store(config: TextConfig, directory: str) -> TextSource:
    """Returns the embeddings of a store.

    Raises:
      UserError: there is no such store, or it was made differently than `config` says.
    """
    store = EmbeddingStore(directory)
    identity = store.manifest.identity()
    check_identity(config, identity, f"the embedding store {directory}")

    def lookup(captions: Sequence[str]) -> TextEmbeddings:
        return TextEmbeddings(*store.lookup(captions))  # pyright: ignore[reportArgumentType]

    return TextSource(identity, embed=lookup, batch_text=lookup, encode_fn=None)


def from_encoder(config: TextConfig, mesh: Mesh) -> TextSource:
    """Returns the encoder as a source, its weights spread over the mesh.

    Raises:
      UserError: the weights cannot be had, or are not those that `config` records.
    """
    encoder = load_encoder(
        config.encoder,
        config.max_length,
        find_weights=find_weights,
        open_weights=open_weights,
        weights=config.weights_path,
        tokenizer=config.tokenizer_path,
        cleaning=config.cleaning,
        dtype=config.dtype,
        place=place_on(mesh),
    )
    identity = encoder.identity()
    check_identity(config, identity, f"the text encoder {encoder.name}")

    # On a mesh of several hosts each sees only its part of what `encode` returns.
    gather = jax.jit(lambda text: text, out_shardings=replicated(mesh))

    def embed(captions: Sequence[str]) -> TextEmbeddings:
        distinct = sorted(set(captions))
        rows = np.array([distinct.index(caption) for caption in captions], int)
        encoded = gather(encoder.encode(encoder.tokenize(distinct)))
        stored = encoded._replace(embed=encoded.embed.astype(ml_dtypes.bfloat16))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], stored)

    return TextSource(
        identity,
        embed=embed,
        batch_text=encoder.tokenize,
        encode_fn=encode_on(encoder, mesh),
    )


def encode_on(
    encoder: TextEncoder, mesh: Mesh
) -> Callable[[TextTokens], TextEmbeddings]:
    """Returns the encoder as one jitted function of global token batches.

    What comes out is bfloat16, as a store holds it, and split over the batch as the
    tokens are.
    """
    sharding = batch_sharding(mesh)

    @jax.jit
    def encode(params: Any, tokens: TextTokens) -> TextEmbeddings:
        text = encoder.states_fn(params, tokens.ids, tokens.mask)
        text = text._replace(embed=text.embed.astype(jnp.bfloat16))
        return jax.lax.with_sharding_constraint(text, sharding)

    return functools.partial(encode, encoder.params)


def with_identity(config: StageConfig, identity: Mapping[str, Any]) -> StageConfig:
    """Returns the settings with what the embeddings are made by filled in."""
    text = dataclasses.replace(config.text, **identity)
    return dataclasses.replace(config, text=text)


def check_identity(config: TextConfig, identity: Mapping[str, Any], what: str) -> None:
    """Refuses embeddings that differ from those a stage knows.

    Args:
      config: what the stage knows; hashes it has not recorded yet ("") fit all.
      identity: of the store or encoder.
      what: its name in the message.

    Raises:
      UserError: naming every field that differs.
    """
    differing = [
        f"{name} {identity[name]!r}, not {wanted!r}"
        for name, wanted in config.identity.items()
        if wanted not in ("", identity[name])
    ]
    if differing:
        raise UserError(
            f"{what} has {'; '.join(differing)} as the stage's config says; give the "
            "one that the config names, or change the config and train anew"
        )
