"""CLIP's text encoder (arXiv:2103.00020) as a pure function of its parameters.

With E the sum of token and position embeddings,

    x = E;   per layer:  x = x + attention(LN(x)),   x = x + mlp(LN(x))

(pre-norm), attention(x) = softmax(q k^T / sqrt(width / num_heads)) v over a token and
those before it, mlp(x) = act(x W1 + b1) W2 + b2 with act(x) = x sigmoid(1.702 x), or
the exact gelu in some of the later models.

What comes out is the sequence after the last layer but one, without the final norm:
Imagen takes the penultimate layer of CLIP (arXiv:2205.11487, appendix D.1), the last
one being shaped to the pooled vector. The last layer is neither run nor read.
"""

import dataclasses
import os
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagen_jax.errors import UserError
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
    select,
    to_device,
)

ACTIVATIONS = ("quick_gelu", "gelu")


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """The shape of a CLIP text encoder, read from its config.json.

    Attributes:
      vocab_size: number of token ids.
      width: width of the hidden states.
      num_layers: layers of the whole encoder, at least 2; the last one is left out.
      num_heads: attention heads; must divide `width`.
      mlp_width: width inside the feed-forward part.
      max_positions: longest sequence with a position embedding, 77 in all of them.
      activation: inside the feed-forward part; "quick_gelu" is x sigmoid(1.702 x).
      norm_eps: added to the variance in LayerNorm.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    max_positions: int
    activation: Literal["quick_gelu", "gelu"]
    norm_eps: float


_KEYS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
}


def read_config(path: str | os.PathLike) -> ClipConfig:
    """Returns the shape described by a config.json of the transformers library.

    Args:
      path: of a CLIPTextModel, or of a whole CLIPModel, whose `text_config` is taken.

    Raises:
      UserError: if a key is missing or describes a network that differs from `clip`.
    """
    keys = read_config_keys(path)
    if isinstance(keys.get("text_config"), dict):
        keys = keys["text_config"]
    values = select(path, keys, _KEYS)
    if values["activation"] not in ACTIVATIONS:
        raise UserError(
            f"{path}: hidden_act is {values['activation']!r}; this encoder has "
            f"{' and '.join(ACTIVATIONS)} only"
        )
    config = ClipConfig(**values)
    check_heads(path, config.width, config.num_heads)
    if config.num_layers < 2:
        raise UserError(
            f"{path}: num_hidden_layers is {config.num_layers}; it must be at least 2, "
            "as the states of the last layer but one are taken"
        )
    return config


def params_from_tensors(
    tensors: Tensors, config: ClipConfig, place: Place = to_device
) -> Params:
    """Returns the parameters of all layers but the last, stacked.

    Args:
      tensors: by the names of transformers' CLIPTextModel or CLIPModel.
      config: the shape to expect.
      place: called once for each leaf.

    Raises:
      UserError: naming all tensors that are missing or not as `config` says.
    """
    is_part = any(name.startswith("text_model.") for name in tensors)
    prefix = "text_model." if is_part else ""
    leaves = text_leaves(prefix, config, config.num_layers - 1)
    return read_params(tensors, leaves, place)


def text_leaves(prefix: str, config: ClipConfig, num_layers: int) -> list[Leaf]:
    """Returns where the embeddings and the first `num_layers` layers come from."""
    d, embeddings = config.width, f"{prefix}embeddings"
    return [
        one("token", f"{embeddings}.token_embedding.weight", config.vocab_size, d),
        one(
            "position",
            f"{embeddings}.position_embedding.weight",
            config.max_positions,
            d,
        ),
        *layer_leaves(f"{prefix}encoder.layers.{{i}}", num_layers, d, config.mlp_width),
    ]


def layer_leaves(layer: str, num_layers: int, d: int, f: int) -> list[Leaf]:
    """Returns where the layers of a tower come from, the text's or the pictures'.

    Args:
      layer: name of one in the checkpoint, "{i}" its number.
      num_layers: how many.
      d: width of the hidden states.
      f: width inside the feed-forward part.
    """
    leaves = []
    for path, part in zip(
        ("query", "key", "value", "out"),
        ("q_proj", "k_proj", "v_proj", "out_proj"),
        strict=True,
    ):
        name = f"{layer}.self_attn.{part}"
        leaves += dense_layers(f"attention/{path}", name, num_layers, d, d)
    leaves += dense_layers("mlp_in", f"{layer}.mlp.fc1", num_layers, d, f)
    leaves += dense_layers("mlp_out", f"{layer}.mlp.fc2", num_layers, f, d)
    for path, part in (("attention_norm", "layer_norm1"), ("mlp_norm", "layer_norm2")):
        leaves += [
            per_layer(f"{path}/scale", f"{layer}.{part}.weight", num_layers, d),
            per_layer(f"{path}/bias", f"{layer}.{part}.bias", num_layers, d),
        ]
    return leaves


def hidden_states(
    params: Params,
    ids: Int[Array, "b n"],
    mask: Bool[Array, "b n"],
    config: ClipConfig,
) -> Float[Array, "b n d"]:
    """Returns the penultimate layer's states, zero where `mask` is False.

    A token's state depends on the valid tokens up to itself. The compute type is the
    parameters', see `imagen_jax.text.layers`.

    Args:
      params: from `params_from_tensors`.
      ids: token ids, 0 <= id < vocab_size, n <= max_positions; any id may stand where
        the mask is False.
      mask: True on valid tokens: up to and including the end of text; a row without
        any gives zeros.
      config: static under jit.
    """
    n = ids.shape[1]
    visible = mask[:, None, :] & jnp.tri(n, dtype=bool)
    x = params["token"][ids].astype(jnp.float32) + params["position"][:n]  # b n d
    shape = (config.num_heads, config.activation, config.norm_eps)
    x = run_layers(params["layers"], x, visible, *shape)
    return masked(x, mask, params["token"].dtype)


def run_layers(
    layers: Params,
    x: Float[Array, "b n d"],
    visible: Bool[Array, "#b #n n"],
    num_heads: int,
    activation: str,
    eps: float,
) -> Float[Array, "b n d"]:
    """Returns the sequence after all layers.

    Args:
      layers: stacked, from `layer_leaves`.
      x: the sequence before them, float32.
      visible: [b q n], True where query q may see key n.
      num_heads: must divide d.
      activation: one of `ACTIVATIONS`.
      eps: added to the variance in LayerNorm.
    """
    scale = (x.shape[-1] // num_heads) ** -0.5

    def layer(
        x: Float[Array, "b n d"], p: Params
    ) -> tuple[Float[Array, "b n d"], None]:
        h = layer_norm(x, p["attention_norm"], eps)
        x = x + attention(h, visible, p["attention"], num_heads, scale)
        h = dense(layer_norm(x, p["mlp_norm"], eps), p["mlp_in"])  # b n f
        return x + dense(_activate(h, activation), p["mlp_out"]), None

    return jax.lax.scan(layer, x, layers)[0]


def _activate(h: Float[Array, "b n f"], activation: str) -> Float[Array, "b n f"]:
    if activation == "quick_gelu":
        return h * jax.nn.sigmoid(1.702 * h)
    return jax.nn.gelu(h, approximate=False)
