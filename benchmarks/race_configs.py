"""The two stages that are raced, in imagen_jax's own settings.

Each has the shape of imagen-pytorch's model in `peers/peer_common.py`: the same widths,
block counts, resolution, batch, text (64 tokens of width 512, projected to 256) and
levels with attention; where the paper leaves a choice, the reading nearer in FLOPs.
What still differs is the network the paper describes:

  base64  172 GFLOP forward against 125. Attention follows every residual block of three
          levels (imagen-pytorch: the last of each level, with a feed-forward part), one
          residual block more per level on the way up, and resampling inside blocks.
  sr256   18 GFLOP forward against 28. Nothing but the stem and the output runs at 256
          pixels; imagen-pytorch has a residual block and kernels up to 15 wide there.

So the race reports seconds and counted FLOPs, and the table compares by both.
"""

import dataclasses

from imagen_jax.config import (
    EfficientUNetConfig,
    OptimizerConfig,
    SamplerConfig,
    StageConfig,
    TextConfig,
    TrainConfig,
    UNetConfig,
)

MODELS = ("base64", "sr256")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}

BASE64 = UNetConfig(
    channels=64,
    channel_mults=(1, 2, 3, 4),
    num_res_blocks=(2, 2, 2, 2),
    attention=(False, True, True, True),
    head_dim=64,
    text_proj_width=256,
)
SR256 = EfficientUNetConfig(
    channels=(32, 64, 128, 192),
    num_res_blocks=(2, 2, 3, 3),
    self_attention=(False, False, False, True),
    text_attention=(False, False, False, True),
    num_heads=4,
    skip="concat",
    text_proj_width=256,
)


def race_config(model: str, dtype: str, batch: int | None = None) -> StageConfig:
    """Returns the stage to race.

    The loss is the plain eps loss and the optimizer Adam with one average of the
    parameters; sampling is ancestral DDPM with guidance and dynamic thresholding, its
    values those that the peers are called with.

    Args:
      model: one of `MODELS`.
      dtype: a key of `DTYPES`; the networks' compute type.
      batch: pictures per step; None = 8 for base64 and 1 for sr256.
    """
    sr = model == "sr256"
    network = dataclasses.replace(SR256 if sr else BASE64, dtype=DTYPES[dtype])
    return StageConfig(
        name=model,
        resolution=256 if sr else 64,
        low_res_resolution=64 if sr else 0,
        text=TextConfig(encoder="none", width=512, max_length=64),
        network=network,
        optimizer=OptimizerConfig(kind="adam", learning_rate=1e-4, warmup_steps=0),
        train=TrainConfig(batch_size=batch or (1 if sr else 8), num_steps=1_000_000),
        sampler=SamplerConfig(
            kind="ddpm",
            num_steps=2,  # `sample_step.py` says why
            guidance_weight=5.0,
            threshold="dynamic",
            percentile=95.0,
            aug_level=0.2 if sr else 0.0,
        ),
    )
