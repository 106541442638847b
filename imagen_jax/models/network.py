"""The choice between the two networks."""

from collections.abc import Callable

import jax

from imagen_jax.config import EfficientUNetConfig, UNetConfig
from imagen_jax.models.efficient_unet import EfficientUNet
from imagen_jax.models.unet import UNet

Network = UNet | EfficientUNet


def build_network(
    config: UNetConfig | EfficientUNetConfig,
    *,
    unroll: bool,
    constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> Network:
    """Returns the network that a stage's config describes.

    Args:
      config: its shape.
      unroll: unroll scans over layers; True where the program will run on a CPU.
      constrain: applied to the activations at each level boundary; it may tell the
        compiler how they are sharded.
    """
    match config:
        case UNetConfig():
            return UNet(config, unroll, constrain)
        case EfficientUNetConfig():
            return EfficientUNet(config, unroll, constrain)
