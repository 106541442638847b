"""The super-resolution stages' Efficient U-Net. Paper: appendices B.1, F.2 and F.3.

    stem -> DBlock x levels -> UBlock x levels -> output

    DBlock: strided convolution, N ResBlocks, [attention]     (downsample first)
    UBlock: merge the skip, N ResBlocks, [attention], upsample (upsample last)

Most residual blocks sit at low resolution, convolutions run after the downsampling and
before the upsampling, and sums are scaled by 1/sqrt(2), which is how Score-SDE and SR3,
cited by the paper for it, write skip scaling. With `resampling` "last", as in usual
U-Nets, the same convolutions and blocks run before the downsampling and after the
upsampling, on 4 times as many pixels. Attention comes once, after the residual
blocks (Fig. A.28). SR1024 has attention to the text alone, so it can be trained on
crops: nothing in it depends on position or on the size of the picture.

With `low_res_residual` the output is alpha_aug low_res + network: where the low-res
picture is clean only its correction is learned, and where it is all noise nothing is
added (alpha_aug low_res is the best linear guess for data of unit variance). Not in the
paper; it lets a small network get colours right from the first step.

Fields of `EfficientUNetConfig` choose between the readings that the paper allows.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.config import EfficientUNetConfig
from imagen_jax.interfaces import Conditioning
from imagen_jax.models.attention import Attention
from imagen_jax.models.blocks import Layers
from imagen_jax.models.conditioning import BlockConditioning, Conditioner
from imagen_jax.models.layers import (
    Conv,
    GroupNorm,
    average_pool,
    depth_to_space,
    nearest_upsample,
    silu,
    space_to_depth,
)

SKIP_SCALE = 2.0**-0.5


class EfficientUNet(nn.Module):
    """The network of one super-resolution stage.

    Attributes:
      config: its shape.
      unroll: unroll the scans over layers (on CPUs).
      constrain: applied to the activations at each level boundary.
      out_channels: channels of the output picture.
    """

    config: EfficientUNetConfig
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
            config.channels[0],
            4 * config.channels[0],
            config.text_proj_width,
            config.text_pooling,
            dtype,
            name="conditioner",
        )(logsnr, cond)
        h = space_to_depth(z, config.patch_size)
        stem = h = Conv(config.channels[0], dtype=dtype, name="stem")(h)
        runs = []
        for level in range(len(config.channels)):
            if config.resampling == "last" and level:
                h = average_pool(h, config.strides[level - 1])
            h, run = self._dblock(level, self.constrain(h), context)
            runs.append(run)
        for level in reversed(range(len(config.channels))):
            h = self._ublock(level, self.constrain(h), runs[level], context)
            if config.resampling == "last" and level:
                h = nearest_upsample(h, config.strides[level - 1])
        h = (h + stem) * SKIP_SCALE
        h = silu(GroupNorm(config.norm_groups, dtype, name="out_norm")(h))
        features = self.out_channels * config.patch_size**2
        h = Conv(features, zero_init=True, dtype=jnp.float32, name="out")(h)
        picture = depth_to_space(h, config.patch_size)
        low_res, aug_logsnr = cond.low_res, cond.aug_logsnr
        if config.low_res_residual and low_res is not None and aug_logsnr is not None:
            alpha = jnp.sqrt(jax.nn.sigmoid(aug_logsnr))[:, None, None, None]
            picture += alpha * low_res
        return picture

    def _dblock(self, level: int, h: Array, context: BlockConditioning):
        """Returns the block's output and its ResBlocks' outputs, [N b h w c]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        width = config.channels[level]
        stride = config.strides[level] if config.resampling == "first" else 1
        h = Conv(width, stride=stride, dtype=dtype, name=f"down_{level}_conv")(h)
        h, run = self._layers(level, f"down_{level}_blocks")(h, None, context)
        return self._attention(level, f"down_{level}_attention", h, context), run

    def _ublock(
        self, level: int, h: Array, run: Array, context: BlockConditioning
    ) -> Array:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        # In the middle the input is the DBlock's own output: adding it says nothing.
        if config.skip == "add" and level < len(config.channels) - 1:
            h = (h + run[-1]) * SKIP_SCALE
        skips = run[::-1] if config.skip == "concat" else None
        h, _ = self._layers(level, f"up_{level}_blocks")(h, skips, context)
        h = self._attention(level, f"up_{level}_attention", h, context)
        width = config.channels[max(level - 1, 0)]
        if config.resampling == "first" and config.strides[level] > 1:
            h = nearest_upsample(h, config.strides[level])
        return Conv(width, dtype=dtype, name=f"up_{level}_conv")(h)

    def _layers(self, level: int, name: str) -> Layers:
        config = self.config
        layer = {
            "channels": config.channels[level],
            "norm_groups": config.norm_groups,
            "shortcut": config.shortcut,
            "residual_scale": SKIP_SCALE,
            "dtype": jnp.dtype(config.dtype),
        }
        length = config.num_res_blocks[level]
        return Layers(
            length, tuple(layer.items()), config.remat, self.unroll, name=name
        )

    def _attention(
        self, level: int, name: str, h: Array, context: BlockConditioning
    ) -> Array:
        config = self.config
        if not (config.self_attention[level] or config.text_attention[level]):
            return h
        return Attention(
            config.num_heads,
            config.self_attention[level],
            config.text_attention[level],
            config.norm_groups,
            SKIP_SCALE,
            jnp.dtype(config.dtype),
            name=name,
        )(h, context.text, context.text_mask)
