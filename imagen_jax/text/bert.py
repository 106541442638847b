"""The BERT encoder (arXiv:1810.04805) as a pure function of its parameters.

With E the sum of word, position and type embeddings, a caption's hidden states are

    x = LN(E);   per layer:  x = LN(x + attention(x)),   x = LN(x + mlp(x))

(post-norm), attention(x) = softmax(q k^T / sqrt(width / num_heads)) v over the valid
tokens, mlp(x) = gelu(x W1 + b1) W2 + b2 with the exact (erf) gelu. What comes out is
the sequence of the last layer, neither pooled nor normalised: Imagen attends to the
tokens one by one (arXiv:2205.11487, section 2.1 and appendix D.1; which layer of BERT
was used is not said there).

The layers are stacked along a leading axis and run by `lax.scan`, so compile time does
not grow with depth. Every size comes from `BertConfig`; letters beside those of
`imagen_jax.interfaces`: k heads, c width of a head.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imagen_jax.errors import UserError

BertParams = dict[str, Any]  # arrays: embeddings, embed_norm, and stacked `layers`

# Our name of a layer's part -> its name in checkpoints of the transformers library.
_DENSE = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "mlp_in": "intermediate.dense",
    "mlp_out": "output.dense",
}
_NORMS = {
    "attention_norm": "attention.output.LayerNorm",
    "mlp_norm": "output.LayerNorm",
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT. No field has a default: all are read from its config.json.

    Attributes:
      vocab_size: number of token ids.
      width: width of the hidden states.
      num_layers: encoder layers.
      num_heads: attention heads; must divide `width`.
      mlp_width: width inside the feed-forward part.
      max_positions: longest sequence with a position embedding.
      num_types: token types; only type 0 is used.
      norm_eps: added to the variance in LayerNorm.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    max_positions: int
    num_types: int
    norm_eps: float


def read_config(path: str | os.PathLike) -> BertConfig:
    """Returns the shape described by a config.json of the transformers library.

    Raises:
      UserError: if a key is missing or describes a network that differs from `bert`.
    """
    keys = json.loads(Path(path).read_text(encoding="utf-8"))
    required = {"hidden_act": "gelu"}
    if "position_embedding_type" in keys:  # left out by newer writers
        required["position_embedding_type"] = "absolute"
    for key, value in required.items():
        if keys.get(key) != value:
            raise UserError(
                f"{path}: {key} is {keys.get(key)!r}; this encoder has {value!r} only"
            )
    try:
        config = BertConfig(
            vocab_size=keys["vocab_size"],
            width=keys["hidden_size"],
            num_layers=keys["num_hidden_layers"],
            num_heads=keys["num_attention_heads"],
            mlp_width=keys["intermediate_size"],
            max_positions=keys["max_position_embeddings"],
            num_types=keys["type_vocab_size"],
            norm_eps=keys["layer_norm_eps"],
        )
    except KeyError as error:
        raise UserError(f"{path} has no key {error}; give a BERT's config") from error
    if config.width % config.num_heads:
        raise UserError(
            f"{path}: hidden_size is {config.width}, num_attention_heads "
            f"{config.num_heads}; heads must divide the width"
        )
    return config


def params_from_tensors(
    tensors: Mapping[str, np.ndarray], config: BertConfig
) -> BertParams:
    """Returns the parameters, stacked per layer, from a transformers checkpoint.

    Kernels are transposed from that library's (out, in) to (in, out). Only the row of
    token type 0 is taken: a caption is one sentence.

    Args:
      tensors: by the names of transformers' BertModel; others are ignored.
      config: the shape to expect.

    Raises:
      UserError: if a tensor is missing or its shape is not what `config` says.
    """

    def take(name: str, *shape: int) -> np.ndarray:
        if name not in tensors:
            raise UserError(f"the weights have no tensor {name}; give a BertModel's")
        if tensors[name].shape != shape:
            raise UserError(
                f"tensor {name} has the shape {tensors[name].shape}; "
                f"its config.json says {shape}"
            )
        return tensors[name]

    def stack(part: str, leaf: str, *shape: int) -> np.ndarray:
        layers = range(config.num_layers)
        return np.stack(
            [take(f"encoder.layer.{i}.{part}.{leaf}", *shape) for i in layers]
        )

    d, f = config.width, config.mlp_width
    sizes = dict.fromkeys(_DENSE, (d, d)) | {"mlp_in": (d, f), "mlp_out": (f, d)}
    layers = {}
    for name, part in _DENSE.items():
        fan_in, fan_out = sizes[name]
        layers[name] = {
            "kernel": stack(part, "weight", fan_out, fan_in).swapaxes(1, 2),
            "bias": stack(part, "bias", fan_out),
        }
    for name, part in _NORMS.items():
        layers[name] = {
            "scale": stack(part, "weight", d),
            "bias": stack(part, "bias", d),
        }
    return {
        "word": take("embeddings.word_embeddings.weight", config.vocab_size, d),
        "position": take(
            "embeddings.position_embeddings.weight", config.max_positions, d
        ),
        "type": take("embeddings.token_type_embeddings.weight", config.num_types, d)[0],
        "embed_norm": {
            "scale": take("embeddings.LayerNorm.weight", d),
            "bias": take("embeddings.LayerNorm.bias", d),
        },
        "layers": layers,
    }


def hidden_states(
    params: BertParams,
    ids: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
    config: BertConfig,
) -> Float[Array, "b n d"]:
    """Returns the last layer's states, zero where `mask` is False.

    A valid token's state depends on the valid tokens of its own row only. The compute
    type is the parameters'; norms and softmax are float32 in any case.

    Args:
      params: from `params_from_tensors`.
      ids: token ids, 0 <= id < vocab_size, n <= max_positions; any id may stand where
        the mask is False.
      mask: True on valid tokens; a row without any gives zeros.
      config: static under jit.
    """
    # Float32 products stay float32 on TPUs and GPUs too, whose default is coarser: an
    # embedding must not depend on the machine that made it.
    with jax.default_matmul_precision("highest"):
        n = ids.shape[1]
        x = params["word"][ids] + params["position"][:n] + params["type"]  # b n d
        x = _layer_norm(x, params["embed_norm"], config.norm_eps)

        def layer(
            x: Float[Array, "b n d"], p: dict[str, Any]
        ) -> tuple[Float[Array, "b n d"], None]:
            x = x + _attention(x, mask, p, config.num_heads)
            x = _layer_norm(x, p["attention_norm"], config.norm_eps)
            h = jax.nn.gelu(_dense(x, p["mlp_in"]), approximate=False)  # b n mlp_width
            x = x + _dense(h, p["mlp_out"])
            return _layer_norm(x, p["mlp_norm"], config.norm_eps), None

        x, _ = jax.lax.scan(layer, x, params["layers"])
    return jnp.where(mask[:, :, None], x, 0)


def _dense(x: Float[Array, "b n i"], p: dict[str, Any]) -> Float[Array, "b n o"]:
    return x @ p["kernel"] + p["bias"]


def _layer_norm(
    x: Float[Array, "b n d"], p: dict[str, Any], eps: float
) -> Float[Array, "b n d"]:
    h = x.astype(jnp.float32)
    h = h - h.mean(axis=-1, keepdims=True)
    h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + eps)
    return (h * p["scale"] + p["bias"]).astype(x.dtype)


def _attention(
    x: Float[Array, "b n d"], mask: Bool[Array, "b n"], p: dict[str, Any], heads: int
) -> Float[Array, "b n d"]:
    b, n, d = x.shape

    def split(name: str) -> Float[Array, "b n k c"]:
        return _dense(x, p[name]).reshape(b, n, heads, d // heads)

    q, k, v = split("query"), split("key"), split("value")
    logits = jnp.einsum("bqkc,bnkc->bkqn", q, k).astype(jnp.float32)
    logits = logits * (d // heads) ** -0.5
    # Not -inf: softmax over a row without any valid key would be 0 / 0.
    logits = jnp.where(mask[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
    mixed = jnp.einsum("bkqn,bnkc->bqkc", weights, v).reshape(b, n, d)
    return _dense(mixed, p["attention_out"])
