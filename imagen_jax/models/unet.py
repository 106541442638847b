"""The base stage's U-Net: ADM's, with text. Paper: section 2.5 and appendix F.1.

    stem -> per level: N x (ResBlock [attention]), halve
         -> ResBlock, attention, ResBlock
         -> per level: (N + 1) x (concat skip, ResBlock [attention]), double -> output

Every map that the way down produces (stem, each block, each halving) is a skip
connection of the way up, as in ADM (arXiv:2105.05233); halving and doubling are
ResBlocks ("biggan"). Attention of a level with self-attention also sees the text.

Parameter names carry level and index. Of a level's N blocks the first, whose width
changes, is `down_1_block_0`; the other N - 1 are alike and scanned: `down_1_blocks`.
On the way up the first and the last differ: `up_1_block_0`, `up_1_blocks`,
`up_1_block_last`.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.config import UNetConfig
from imagen_jax.interfaces import Conditioning
from imagen_jax.models.attention import Attention
from imagen_jax.models.blocks import Layer, Layers, ResBlock
from imagen_jax.models.conditioning import BlockConditioning, Conditioner
from imagen_jax.models.layers import (
    Conv,
    GroupNorm,
    depth_to_space,
    silu,
    space_to_depth,
)


class UNet(nn.Module):
    """The network of one base stage.

    Attributes:
      config: its shape.
      unroll: unroll the scans over layers (on CPUs).
      constrain: applied to the activations at each level boundary.
      out_channels: channels of the output picture.
    """

    config: UNetConfig
    unroll: bool = False
    constrain: Callable[[jax.Array], jax.Array] = lambda x: x
    out_channels: int = 3

    @nn.compact
    def __call__(
        self, z: Float[Array, "b h w 3"], logsnr: Float[Array, " b"], cond: Conditioning
    ) -> Float[Array, "b h w c"]:
        """Returns the network's output, float32; see `interfaces.Denoiser`."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if cond.low_res is not None:
            z = jnp.concatenate([z, cond.low_res], axis=-1)
        context = Conditioner(
            config.channels,
            4 * config.channels,
            config.text_proj_width,
            config.text_pooling,
            dtype,
            name="conditioner",
        )(logsnr, cond)
        h = space_to_depth(z, config.patch_size)
        h = Conv(config.channels, dtype=dtype, name="stem")(h)
        entries, runs = [h], []  # skips: what enters each level, what its blocks give
        for level in range(len(config.channel_mults)):
            h, run = self._down_level(level, self.constrain(h), context)
            runs.append(run)
            if level < len(config.channel_mults) - 1:
                h = self._resample(level, "down")(h, context.embedding)
                entries.append(h)
        h = self._middle(h, context)
        for level in reversed(range(len(config.channel_mults))):
            h = self.constrain(h)
            h = self._up_level(level, h, runs[level], entries[level], context)
            if level > 0:
                h = self._resample(level, "up")(h, context.embedding)
        h = silu(GroupNorm(config.norm_groups, dtype, name="out_norm")(h))
        features = self.out_channels * config.patch_size**2
        h = Conv(features, zero_init=True, dtype=jnp.float32, name="out")(h)
        return depth_to_space(h, config.patch_size)

    def _width(self, level: int) -> int:
        return self.config.channels * self.config.channel_mults[level]

    def _layer(self, level: int) -> dict:
        """The keyword arguments of a level's `Layer`s."""
        config, width = self.config, self._width(level)
        return {
            "channels": width,
            "norm_groups": config.norm_groups,
            "num_heads": width // config.head_dim if config.attention[level] else 0,
            "text_attention": config.text_attention,
            "dtype": jnp.dtype(config.dtype),
        }

    def _single(self, level: int, name: str) -> nn.Module:
        cls = nn.remat(Layer) if self.config.remat else Layer
        return cls(**self._layer(level), name=name)

    def _run(self, level: int, length: int, name: str) -> Layers:
        layer = tuple(self._layer(level).items())
        return Layers(length, layer, self.config.remat, self.unroll, name=name)

    def _resample(self, level: int, direction: Literal["down", "up"]) -> ResBlock:
        return ResBlock(
            self._width(level),
            self.config.norm_groups,
            resample=direction,
            dtype=jnp.dtype(self.config.dtype),
            name=f"{direction}_{level}_resample",
        )

    def _down_level(self, level: int, h: Array, context: BlockConditioning):
        """Returns the level's output and its blocks' outputs stacked, [N b h w c]."""
        h, first = self._single(level, f"down_{level}_block_0")(h, None, context)
        skips = first[None]
        more = self.config.num_res_blocks[level] - 1
        if more:
            h, rest = self._run(level, more, f"down_{level}_blocks")(h, None, context)
            skips = jnp.concatenate([skips, rest])
        return h, skips

    def _middle(self, h: Array, context: BlockConditioning) -> Array:
        config, level = self.config, len(self.config.channel_mults) - 1
        width, dtype = self._width(level), jnp.dtype(config.dtype)
        first = ResBlock(width, config.norm_groups, dtype=dtype, name="middle_res_0")
        h = first(h, context.embedding)
        if config.attention[level]:
            h = Attention(
                width // config.head_dim,
                True,
                config.text_attention,
                config.norm_groups,
                dtype=dtype,
                name="middle_attention",
            )(h, context.text, context.text_mask)
        last = ResBlock(width, config.norm_groups, dtype=dtype, name="middle_res_1")
        return last(h, context.embedding)

    def _up_level(
        self, level: int, h: Array, run: Array, entry: Array, context: BlockConditioning
    ) -> Array:
        """Consumes the level's skips from the last to the first, then its entry."""
        skips = run[::-1]
        h, _ = self._single(level, f"up_{level}_block_0")(h, skips[0], context)
        if len(skips) > 1:
            scanned = self._run(level, len(skips) - 1, f"up_{level}_blocks")
            h, _ = scanned(h, skips[1:], context)
        h, _ = self._single(level, f"up_{level}_block_last")(h, entry, context)
        return h
