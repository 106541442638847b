"""Attention of the image to itself and to the text, and attention pooling of the text.

Text enters attention as the paper describes it (section 2.5, appendix D.3.1): where an
image level has self-attention, the text's keys and values are concatenated to the
image's, under one softmax; where it has none, the text alone is attended to. The text
is normalised by its own LayerNorm in every attention layer and in the pooling.

Masked tokens get no weight. At least one token is always valid (`null_text` keeps
position 0), so no softmax is over nothing.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from imagen_jax.models.layers import GroupNorm, dense

_LOWEST = -1e30  # the score of a masked key


def attend(
    query: Float[Array, "b q k c"],
    key: Float[Array, "b n k c"],
    value: Float[Array, "b n k c"],
    mask: Bool[Array, "b n"],
) -> Float[Array, "b q k c"]:
    """Returns softmax(query key^T / sqrt(c)) value for each of k heads.

    As `jax.nn.dot_product_attention`, but the weights are divided by their sum after
    the product: in the backward pass sums then run over the c of the output instead of
    the n keys.

    Args:
      query: what asks; exponentials and their sum are float32 whatever its type.
      key: what is asked.
      value: what is averaged.
      mask: keys that count; at least one of each row.
    """
    scores = jnp.einsum(
        "bqkc,bnkc->bkqn", query, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(
        mask[:, None, None, :], scores * query.shape[-1] ** -0.5, _LOWEST
    )
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - highest)
    total = weights.sum(axis=-1).transpose(0, 2, 1)[..., None]
    y = jnp.einsum(
        "bkqn,bnkc->bqkc",
        weights.astype(value.dtype),
        value,
        preferred_element_type=jnp.float32,
    )
    return (y / total).astype(query.dtype)


class Attention(nn.Module):
    """GroupNorm, attention over image and text tokens, zero-initialised residual.

    Attributes:
      num_heads: heads; the width of each is channels / num_heads.
      self_attention: image tokens attend to image tokens.
      text_attention: image tokens attend to text tokens.
      norm_groups: groups of GroupNorm.
      residual_scale: factor on (x + attention).
      dtype: compute type; softmax is float32.
    """

    num_heads: int
    self_attention: bool
    text_attention: bool
    norm_groups: int
    residual_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        text: Float[Array, "b n d"],
        text_mask: Bool[Array, "b n"],
    ) -> Float[Array, "b h w c"]:
        """Returns `residual_scale * (x + attention)`."""
        b, h, w, c = x.shape

        def heads(tokens: Array, name: str) -> Array:
            y = dense(c, name, self.dtype)(tokens)
            return y.reshape(b, -1, self.num_heads, c // self.num_heads)

        image = GroupNorm(self.norm_groups, self.dtype, name="norm")(x)
        image = image.reshape(b, h * w, c)
        query = heads(image, "query")
        keys, values, masks = [], [], []
        if self.self_attention:
            keys.append(heads(image, "key"))
            values.append(heads(image, "value"))
            masks.append(jnp.ones((b, h * w), bool))
        if self.text_attention:
            text = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="text_norm")(text)
            keys.append(heads(text, "text_key"))
            values.append(heads(text, "text_value"))
            masks.append(text_mask)
        y = attend(
            query,
            jnp.concatenate(keys, axis=1),
            jnp.concatenate(values, axis=1),
            jnp.concatenate(masks, axis=1),
        )
        y = dense(c, "out", self.dtype, zero_init=True)(y.reshape(b, h * w, c))
        return (x + y.reshape(b, h, w, c)) * self.residual_scale


class TextPooling(nn.Module):
    """One vector from a caption: attention whose query is the mean of its tokens.

    The mean token is also a key, as in DeepFloyd IF; the paper says only that the
    pooling is by attention and has a LayerNorm (section 2.5).

    Attributes:
      features: width of the result.
      kind: "attention" or "mean".
      head_dim: width of a head.
      dtype: compute type.
    """

    features: int
    kind: str
    head_dim: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, text: Float[Array, "b n d"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b e"]:
        """Returns the pooled and projected text; masked tokens take no part."""
        text = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(text)
        weight = mask.astype(self.dtype)[..., None]
        count = jnp.maximum(weight.sum(1, keepdims=True), 1)
        pooled = (text * weight).sum(1, keepdims=True) / count  # [b 1 d]
        if self.kind == "attention":
            b, _, d = text.shape
            num_heads = max(d // self.head_dim, 1)
            width = num_heads * self.head_dim
            tokens = jnp.concatenate([pooled, text], axis=1)

            def heads(x: Array, name: str) -> Array:
                y = dense(width, name, self.dtype)(x)
                return y.reshape(b, -1, num_heads, self.head_dim)

            valid = jnp.concatenate([jnp.ones((b, 1), bool), mask], axis=1)
            pooled = attend(
                heads(pooled, "query"),
                heads(tokens, "key"),
                heads(tokens, "value"),
                valid,
            ).reshape(b, 1, width)
        pooled = dense(self.features, "project", self.dtype)(pooled[:, 0])
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="out_norm")(pooled)
