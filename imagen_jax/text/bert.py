"""The BERT encoder (arXiv:1810.04805) as a pure function of its parameters.

With E the sum of word, position and type embeddings, a caption's hidden states are

    x = LN(E);   per layer:  x = LN(x + attention(x)),   x = LN(x + mlp(x))

(post-norm), attention(x) = softmax(q k^T / sqrt(width / num_heads)) v over the valid
tokens, mlp(x) = gelu(x W1 + b1) W2 + b2 with the exact (erf) gelu. What comes out is
the sequence of the last layer, neither pooled nor normalised: Imagen attends to the
tokens one by one (arXiv:2205.11487, section 2.1 and appendix D.1; which layer of BERT
was used is not said there).

The layers are stacked along a leading axis and run by `lax.scan`, so compile time does
not grow with depth. Every size comes from `BertConfig`.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagen_jax.text.layers import Params, attention, dense, layer_norm, masked
from imagen_jax.text.parameters import (
    Leaf,
    Place,
    Tensors,
    check_heads,
    dense_layers,
    one,
    per_layer,
    read_config_keys,
    read_params,
    require,
    select,
    to_device,
)

# Our name of a layer's part -> its name in checkpoints of the transformers library.
_ATTENTION = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
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
      num_layers: encoder layers; 0 leaves the embeddings of words and places.
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


_KEYS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "num_types": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
}


def read_config(path: str | os.PathLike) -> BertConfig:
    """Returns the shape described by a config.json of the transformers library.

    Raises:
      UserError: if a key is missing or describes a network that differs from `bert`.
    """
    keys = read_config_keys(path)
    select(path, keys, {"activation": "hidden_act"})  # must be said, not assumed
    # Newer writers leave the position embeddings out.
    require(path, keys, {"hidden_act": "gelu", "position_embedding_type": "absolute"})
    config = BertConfig(**select(path, keys, _KEYS))
    check_heads(path, config.width, config.num_heads)
    return config


def params_from_tensors(
    tensors: Tensors, config: BertConfig, place: Place = to_device
) -> Params:
    """Returns the parameters, stacked per layer, from a transformers checkpoint.

    Only the row of token type 0 is taken: a caption is one sentence.

    Args:
      tensors: by the names of transformers' BertModel, or of a model that has one as
        its part `bert`; norms may have the hub's older names gamma and beta.
      config: the shape to expect.
      place: called once for each leaf.

    Raises:
      UserError: naming all tensors that are missing or not as `config` says.
    """
    return read_params(tensors, _leaves(tensors, config), place)


def _leaves(tensors: Tensors, config: BertConfig) -> list[Leaf]:
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    is_old = any(name.endswith("LayerNorm.gamma") for name in tensors)
    scale, shift = ("gamma", "beta") if is_old else ("weight", "bias")
    d, f, num_layers = config.width, config.mlp_width, config.num_layers
    embeddings, layer = f"{prefix}embeddings", f"{prefix}encoder.layer.{{i}}"
    leaves = [
        one("word", f"{embeddings}.word_embeddings.weight", config.vocab_size, d),
        one(
            "position",
            f"{embeddings}.position_embeddings.weight",
            config.max_positions,
            d,
        ),
        one(
            "type",
            f"{embeddings}.token_type_embeddings.weight",
            config.num_types,
            d,
            convert=lambda tensor: tensor[0],
        ),
        one("embed_norm/scale", f"{embeddings}.LayerNorm.{scale}", d),
        one("embed_norm/bias", f"{embeddings}.LayerNorm.{shift}", d),
    ]
    for path, part in _ATTENTION.items():
        leaves += dense_layers(path, f"{layer}.{part}", num_layers, d, d)
    leaves += dense_layers("mlp_in", f"{layer}.intermediate.dense", num_layers, d, f)
    leaves += dense_layers("mlp_out", f"{layer}.output.dense", num_layers, f, d)
    for path, part in _NORMS.items():
        leaves += [
            per_layer(f"{path}/scale", f"{layer}.{part}.{scale}", num_layers, d),
            per_layer(f"{path}/bias", f"{layer}.{part}.{shift}", num_layers, d),
        ]
    return leaves


def hidden_states(
    params: Params,
    ids: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
    config: BertConfig,
) -> Float[Array, "b n d"]:
    """Returns the last layer's states, zero where `mask` is False.

    A valid token's state depends on the valid tokens of its own row only. The compute
    type is the parameters', see `imagen_jax.text.layers`.

    Args:
      params: from `params_from_tensors`.
      ids: token ids, 0 <= id < vocab_size, n <= max_positions; any id may stand where
        the mask is False.
      mask: True on valid tokens; a row without any gives zeros.
      config: static under jit.
    """
    n, eps = ids.shape[1], config.norm_eps
    scale = (config.width // config.num_heads) ** -0.5
    visible = mask[:, None, :]
    x = params["word"][ids].astype(jnp.float32)  # b n d
    x = x + params["position"][:n] + params["type"]
    x = layer_norm(x, params["embed_norm"], eps)

    def layer(
        x: Float[Array, "b n d"], p: Params
    ) -> tuple[Float[Array, "b n d"], None]:
        x = x + attention(x, visible, p["attention"], config.num_heads, scale)
        x = layer_norm(x, p["attention_norm"], eps)
        h = jax.nn.gelu(dense(x, p["mlp_in"]), approximate=False)  # b n mlp_width
        return layer_norm(x + dense(h, p["mlp_out"]), p["mlp_norm"], eps), None

    if config.num_layers:
        x, _ = jax.lax.scan(layer, x, params["layers"])
    return masked(x, mask, params["word"].dtype)
