"""The same stage, small enough for a laptop: for the doctor and for smoke runs.

What is kept is the kind: what is predicted, schedules, augmentation, attention, skips,
remat, dtype, optimizer, crops. What shrinks is size: channels, levels, blocks, pictures
and text.
"""

import dataclasses
import math

from imagen_jax.config import StageConfig
from imagen_jax.network_config import EfficientUNetConfig, UNetConfig

# What is left, at most. Two blocks, so that there is still a scan over blocks.
WIDTH, NUM_LEVELS, NUM_BLOCKS, NUM_GROUPS, NUM_HEADS = 32, 2, 2, 8, 2
RESOLUTION, TEXT_WIDTH, NUM_TOKENS = 8, 64, 16


def shrink(config: StageConfig) -> StageConfig:
    """Returns the config with a small network and small pictures.

    Text becomes narrow and short too, unless `data.store` names embeddings.
    """
    network = config.network
    if isinstance(network, UNetConfig):
        network = _shrink_unet(network)
    else:
        network = _shrink_efficient_unet(network)
    factor = config.resolution // (config.low_res_resolution or config.resolution)
    step = math.lcm(network.downsampling, factor)
    side = -(-RESOLUTION // step) * step
    crop_size = min(side, config.data.crop_size)
    resolution = min(config.resolution, 2 * side if crop_size else side)
    text = config.text
    if not config.data.store:
        text = dataclasses.replace(
            text,
            width=min(text.width, TEXT_WIDTH),
            max_length=min(text.max_length, NUM_TOKENS),
        )
    return dataclasses.replace(
        config,
        resolution=resolution,
        low_res_resolution=config.low_res_resolution and resolution // factor,
        network=network,
        text=text,
        data=dataclasses.replace(config.data, crop_size=crop_size),
    )


def _shrink_unet(network: UNetConfig) -> UNetConfig:
    width = min(network.channels, WIDTH)
    return dataclasses.replace(
        network,
        channels=width,
        channel_mults=tuple(range(1, len(_ends(network.channel_mults)) + 1)),
        num_res_blocks=_fewer(network.num_res_blocks),
        attention=_ends(network.attention),
        head_dim=width,
        text_proj_width=min(network.text_proj_width, WIDTH),
        norm_groups=min(network.norm_groups, NUM_GROUPS),
    )


def _shrink_efficient_unet(network: EfficientUNetConfig) -> EfficientUNetConfig:
    width = min(network.channels[0], WIDTH)
    return dataclasses.replace(
        network,
        channels=(width, 2 * width)[: len(network.channels)],
        num_res_blocks=_fewer(network.num_res_blocks),
        strides=_ends(network.strides),
        self_attention=_ends(network.self_attention),
        text_attention=_ends(network.text_attention),
        num_heads=math.gcd(network.num_heads, NUM_HEADS),
        text_proj_width=min(network.text_proj_width, WIDTH),
        norm_groups=min(network.norm_groups, NUM_GROUPS),
    )


def _ends(levels: tuple) -> tuple:
    """Returns the entries of the first and the last level."""
    return levels if len(levels) < NUM_LEVELS else (levels[0], levels[-1])


def _fewer(blocks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(num, NUM_BLOCKS) for num in _ends(blocks))
