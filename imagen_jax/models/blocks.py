"""The residual block, and runs of identical blocks with stacked parameters.

`ResBlock` is ADM's: GroupNorm, SiLU, convolution; then GroupNorm scaled and shifted by
the embedding (FiLM, the paper's use_scale_shift_norm), SiLU, zero-initialised
convolution; beside it the identity or a 1x1 convolution. "biggan" resampling happens
inside the block on both branches.

`Layer` is one ResBlock with the attention that may follow it, and `Layers` a run of
identical ones: their parameters are stacked along a leading layer axis and applied by
`lax.scan`, so the program does not grow with depth. On a CPU the scan is unrolled
(`unroll`), which is the same computation on the same parameters.
"""

from typing import Any, Literal, cast

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imagen_jax.models.attention import Attention
from imagen_jax.models.conditioning import BlockConditioning
from imagen_jax.models.layers import (
    Conv,
    GroupNorm,
    average_pool,
    dense,
    nearest_upsample,
    silu,
)


class ResBlock(nn.Module):
    """A residual block modulated by the embedding.

    Attributes:
      channels: output width.
      norm_groups: groups of GroupNorm.
      resample: halve or double the size inside the block, or None.
      shortcut: 1x1 convolution "always", or only where the width is "changed".
      residual_scale: factor on (shortcut + residual).
      dtype: compute type.
    """

    channels: int
    norm_groups: int
    resample: Literal["down", "up"] | None = None
    shortcut: Literal["always", "changed"] = "changed"
    residual_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h2 w2 c2"]:
        """Returns `residual_scale * (shortcut(x) + residual(x, embedding))`."""
        groups, width, dtype = self.norm_groups, self.channels, self.dtype
        h = silu(GroupNorm(groups, dtype, name="norm_in")(x))
        if self.resample == "down":
            h, x = average_pool(h, 2), average_pool(x, 2)
        elif self.resample == "up":
            h, x = nearest_upsample(h, 2), nearest_upsample(x, 2)
        h = Conv(width, dtype=dtype, name="conv_in")(h)
        film = dense(2 * width, "film", dtype)(silu(embedding))
        h = GroupNorm(groups, dtype, name="norm_out")(h, film)
        h = Conv(width, zero_init=True, dtype=dtype, name="conv_out")(silu(h))
        if self.shortcut == "always" or x.shape[-1] != width:
            x = dense(width, "shortcut", dtype)(x)
        return (x + h) * self.residual_scale


class Layer(nn.Module):
    """A ResBlock and, where `num_heads` is not 0, the attention after it.

    Called with a skip connection, it sees the concatenation of its input and the skip.

    Attributes:
      channels: output width.
      norm_groups: groups of GroupNorm.
      num_heads: attention heads; 0 = no attention.
      text_attention: whether the attention includes the text.
      shortcut: see `ResBlock`.
      residual_scale: see `ResBlock`.
      dtype: compute type.
    """

    channels: int
    norm_groups: int
    num_heads: int = 0
    text_attention: bool = True
    shortcut: Literal["always", "changed"] = "changed"
    residual_scale: float = 1.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        skip: Float[Array, "b h w c3"] | None,
        cond: BlockConditioning,
    ) -> tuple[Float[Array, "b h w c2"], Float[Array, "b h w c2"]]:
        """Returns the output twice: as the next layer's input and as a skip."""
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        x = ResBlock(
            self.channels,
            self.norm_groups,
            shortcut=self.shortcut,
            residual_scale=self.residual_scale,
            dtype=self.dtype,
            name="res",
        )(x, cond.embedding)
        if self.num_heads:
            x = Attention(
                self.num_heads,
                True,
                self.text_attention,
                self.norm_groups,
                self.residual_scale,
                self.dtype,
                name="attention",
            )(x, cond.text, cond.text_mask)
        return x, x


class Layers(nn.Module):
    """A run of identical `Layer`s under one scan.

    Attributes:
      length: number of layers, at least 1.
      layer: the keyword arguments of each `Layer`, as (name, value) pairs.
      remat: recompute each layer in the backward pass.
      unroll: unroll the scan (on CPUs, where convolutions in loops are slow).
    """

    length: int
    layer: tuple[tuple[str, Any], ...]
    remat: bool
    unroll: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        skips: Float[Array, "l b h w c3"] | None,
        cond: BlockConditioning,
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "l b h w c"]]:
        """Returns the last output, and all of them stacked to serve as skips.

        Args:
          x: the map; its width must be that of the layers.
          skips: one skip connection per layer, in the order they are consumed.
          cond: the conditioning.
        """
        body = nn.remat(Layer, prevent_cse=self.unroll) if self.remat else Layer
        scanned = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=cast(Any, (0, nn.broadcast)),  # Flax infers int from its default
            length=self.length,
            # At least 2: JAX makes a loop of a single layer when unroll is 1, and on a
            # CPU the kernel gradient of a convolution in a loop is 10 times slower.
            unroll=max(self.length, 2) if self.unroll else 1,
        )
        return scanned(**dict(self.layer), name="layers")(x, skips, cond)
