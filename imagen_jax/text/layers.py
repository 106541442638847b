"""The parts that BERT, CLIP and T5 are made of, as pure functions.

One rule for numbers holds in all of them: products of matrices take their operands in
the parameters' type and give float32; everything else (the sequence between the layers,
norms, softmax, biases, activations) is float32. So bfloat16 parameters cost two
roundings a product and no more, and float32 ones none.

Letters beside those of `imagen_jax.interfaces`: k heads, c width of a head, q queries.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Params = dict[str, Any]
"""Arrays by the parts of their path; those of all layers are stacked under "layers"."""


def product(
    equation: str,
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    dtype: np.dtype,
) -> Float[Array, "..."]:
    """Returns the einsum of both, float32.

    Args:
      equation: of `jnp.einsum`.
      a: cast to `dtype` first.
      b: cast to `dtype` first.
      dtype: float32 products stay float32 on TPUs and GPUs too, whose default is
        coarser: an embedding must not depend on the machine that made it.
    """
    is_float32 = dtype == jnp.float32
    return jnp.einsum(
        equation,
        a.astype(dtype),
        b.astype(dtype),
        precision=jax.lax.Precision.HIGHEST if is_float32 else None,
        preferred_element_type=jnp.float32,
    )


def dense(x: Float[Array, "b n i"], p: Params) -> Float[Array, "b n o"]:
    """Returns x `kernel` + `bias`, float32; without "bias" in `p`, x `kernel`."""
    kernel = p["kernel"]
    y = product("bni,io->bno", x, kernel, kernel.dtype)
    return y + p["bias"] if "bias" in p else y


def layer_norm(
    x: Float[Array, "b n d"], p: Params, eps: float
) -> Float[Array, "b n d"]:
    """Returns (x - mean) / sqrt(variance + eps) `scale` + `bias`, float32."""
    h = x.astype(jnp.float32)
    h = h - h.mean(axis=-1, keepdims=True)
    h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + eps)
    return h * p["scale"] + p["bias"]


def rms_norm(x: Float[Array, "b n d"], p: Params, eps: float) -> Float[Array, "b n d"]:
    """Returns x / sqrt(mean(x^2) + eps) `scale`, float32. Source: arXiv:1910.07467."""
    h = x.astype(jnp.float32)
    h = h * jax.lax.rsqrt(jnp.square(h).mean(axis=-1, keepdims=True) + eps)
    return h * p["scale"]


def attention(
    x: Float[Array, "b n d"],
    visible: Bool[Array, "#b #n n"],
    p: Params,
    num_heads: int,
    scale: float,
    bias: Float[Array, "k n n"] | None = None,
) -> Float[Array, "b n d"]:
    """Returns softmax(q k^T scale + bias) v through the output layer, float32.

    Args:
      x: the sequence, already normed where the network norms first.
      visible: [b q n], True where query q may see key n.
      p: `query`, `key`, `value` and `out`; their inner width is heads times c.
      num_heads: divides the inner width.
      scale: of the logits; 1 / sqrt(c), but 1 in T5.
      bias: added to the logits of every row, by head, query and key.
    """
    b, n, _ = x.shape
    dtype = p["query"]["kernel"].dtype

    def heads(name: str) -> Float[Array, "b n k c"]:
        return dense(x, p[name]).reshape(b, n, num_heads, -1)

    logits = scale * product("bqkc,bnkc->bkqn", heads("query"), heads("key"), dtype)
    if bias is not None:
        logits = logits + bias
    # Not -inf: softmax over a row without any visible key would be 0 / 0.
    logits = jnp.where(visible[:, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1)
    mixed = product("bkqn,bnkc->bqkc", weights, heads("value"), dtype)
    return dense(mixed.reshape(b, n, -1), p["out"])


def masked(
    x: Float[Array, "b n d"], mask: Bool[Array, "b n"], dtype: np.dtype
) -> Float[Array, "b n d"]:
    """Returns `x` in `dtype`, zero where `mask` is False."""
    return jnp.where(mask[:, :, None], x, 0).astype(dtype)
