"""Frozen settings of the two networks, the base's U-Net and the Efficient U-Net.

`imagen_jax.models` builds a network from one of them; `StageConfig.network` in
`imagen_jax.config` holds it. Defaults are the paper's where it gives a value.
"""

import dataclasses
import math
from typing import Literal

from imagen_jax.config_checks import (
    check_divides_widths,
    check_levels,
    check_not_negative,
    check_positive,
)


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The base stage's ADM-style U-Net. Paper: appendix F.1, for 64 pixels.

    Attributes:
      kind: "unet"; selects this class in a config file.
      channels: width of the first level.
      channel_mults: width of each level as a multiple of `channels`.
      num_res_blocks: residual blocks per level going down; one more going up.
      attention: per level, whether self-attention with joint text follows each block.
      head_dim: width of an attention head; heads = level width / head_dim.
      text_proj_width: the text is first projected to this width; 0 uses it as it is.
      text_pooling: "attention", "mean", or "none" for the vector added to the noise
        embedding.
      text_attention: whether the text sequence joins the keys and values.
      patch_size: pixel unshuffle before the stem; 1 is the paper's network.
      norm_groups: groups of GroupNorm.
      remat: recompute each block in the backward pass to save memory.
      dtype: compute type, "float32" or "bfloat16"; parameters stay float32.
    """

    kind: Literal["unet"] = "unet"
    channels: int = 512
    channel_mults: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: tuple[int, ...] = (3, 3, 3, 3)
    attention: tuple[bool, ...] = (False, True, True, True)
    head_dim: int = 64
    text_proj_width: int = 0
    text_pooling: Literal["attention", "mean", "none"] = "attention"
    text_attention: bool = True
    patch_size: int = 1
    norm_groups: int = 32
    remat: bool = False
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self):
        check_levels(self, "channel_mults", ("num_res_blocks", "attention"))
        check_positive("network.", self, "channels", "channel_mults", "num_res_blocks")
        check_positive("network.", self, "head_dim", "patch_size", "norm_groups")
        check_not_negative("network.", self, "text_proj_width")
        widths = [self.channels * mult for mult in self.channel_mults]
        check_divides_widths(self, "head_dim", widths, self.attention)

    @property
    def downsampling(self) -> int:
        """How many times smaller the deepest level is than the picture."""
        return self.patch_size * 2 ** (len(self.channel_mults) - 1)


@dataclasses.dataclass(frozen=True)
class EfficientUNetConfig:
    """The super-resolution stages' Efficient U-Net. Paper: appendices B.1, F.2, F.3.

    The paper leaves four points open (imagen_jax README, "Readings"); each is a field.

    Attributes:
      kind: "efficient_unet"; selects this class in a config file.
      channels: width of each block, from the highest resolution down.
      num_res_blocks: residual blocks in each DBlock and UBlock.
      strides: stride of each DBlock's first convolution; 1 leaves the size.
      resampling: "first": a DBlock's residual blocks run after its downsampling, a
        UBlock's before its upsampling. "last", as in usual U-Nets: the other way, so
        block l is at the size that `strides[:l]` leave; the last stride is not used.
      self_attention: per block, whether image tokens attend to each other.
      text_attention: per block, whether image tokens attend to the text.
      num_heads: attention heads, over the block's width.
      low_res_residual: the network gives the correction to its low-res picture, for
        x0-prediction only (see `EfficientUNet`); False is the paper's.
      skip: "add": a UBlock starts from (input + DBlock's output) / sqrt(2); "concat":
        its residual block j also sees the output of the DBlock's block N-1-j.
      shortcut: 1x1 convolution beside a residual block's two 3x3 ones: "always" as
        drawn in Fig. A.27, or "changed", only where the width changes.
      text_proj_width: the text is first projected to this width; 0 uses it as it is.
      text_pooling: "attention", "mean", or "none" for the vector added to the noise
        embedding.
      patch_size: pixel unshuffle before the stem; 1 is the paper's network.
      norm_groups: groups of GroupNorm.
      remat: recompute each block in the backward pass to save memory.
      dtype: compute type, "float32" or "bfloat16"; parameters stay float32.
    """

    kind: Literal["efficient_unet"] = "efficient_unet"
    channels: tuple[int, ...] = (128, 256, 512, 1024)
    num_res_blocks: tuple[int, ...] = (2, 4, 8, 8)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    resampling: Literal["first", "last"] = "first"
    self_attention: tuple[bool, ...] = (False, False, False, True)
    text_attention: tuple[bool, ...] = (False, False, False, True)
    num_heads: int = 8
    low_res_residual: bool = False
    skip: Literal["add", "concat"] = "add"
    shortcut: Literal["always", "changed"] = "always"
    text_proj_width: int = 0
    text_pooling: Literal["attention", "mean", "none"] = "attention"
    patch_size: int = 1
    norm_groups: int = 32
    remat: bool = False
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self):
        lists = ("num_res_blocks", "strides", "self_attention", "text_attention")
        check_levels(self, "channels", lists)
        check_positive("network.", self, "channels", "num_res_blocks", "strides")
        check_positive("network.", self, "num_heads", "patch_size", "norm_groups")
        check_not_negative("network.", self, "text_proj_width")
        for attention in (self.self_attention, self.text_attention):
            check_divides_widths(self, "num_heads", self.channels, attention)

    @property
    def downsampling(self) -> int:
        """How many times smaller the deepest block is than the picture."""
        strides = self.strides if self.resampling == "first" else self.strides[:-1]
        return self.patch_size * math.prod(strides)
