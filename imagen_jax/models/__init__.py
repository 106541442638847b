"""The networks: the only room that imports flax.linen.

`unet.UNet` is the base stage's ADM-style U-Net, `efficient_unet.EfficientUNet` the
super-resolution stages'. Both are called as `(z, logsnr, cond) -> output`, hold no
mutable state and build their parameters in float32. `network.build_network` makes
either from its config.
"""
