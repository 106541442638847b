"""Settings: the paper's defaults, hashing, and every combination that is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from imagen_jax.config import (
    DataConfig,
    DiffusionConfig,
    EfficientUNetConfig,
    OptimizerConfig,
    PreviewConfig,
    SamplerConfig,
    ScheduleConfig,
    StageConfig,
    TextConfig,
    TrainConfig,
    UNetConfig,
)
from imagen_jax.errors import UserError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # Section 4.1 and appendix F.1.
        ("resolution", 64),
        ("low_res_resolution", 0),
        ("text.encoder", "t5_v1_1_xxl"),
        ("text.width", 4096),
        ("network.kind", "unet"),
        ("network.channels", 512),
        ("network.channel_mults", (1, 2, 3, 4)),
        ("network.num_res_blocks", (3, 3, 3, 3)),
        ("network.attention", (False, True, True, True)),  # at 32, 16 and 8 pixels
        ("network.head_dim", 64),
        ("network.text_pooling", "attention"),
        ("network.text_attention", True),
        ("network.patch_size", 1),
        ("diffusion.schedule.kind", "cosine"),
        ("diffusion.schedule.shift", 0.0),
        ("diffusion.prediction", "eps"),
        ("diffusion.weighting", "plain"),
        ("diffusion.times", "uniform"),
        ("diffusion.cond_drop_prob", 0.1),
        ("optimizer.learning_rate", 1e-4),
        ("optimizer.warmup_steps", 10_000),
        ("optimizer.weight_decay", 0.0),
        ("train.batch_size", 2048),
        ("train.num_steps", 2_500_000),
        # Section 2.3: dynamic thresholding.
        ("sampler.threshold", "dynamic"),
        ("sampler.threshold_cap", 0.0),
    ],
)
def test_defaults_are_the_paper_s(key, value):
    assert functools.reduce(getattr, key.split("."), StageConfig()) == value


def test_the_default_efficient_unet_is_the_paper_s_sr256():
    """Appendices B.1 and F.2."""
    config = EfficientUNetConfig()
    assert config.channels == (128, 256, 512, 1024)
    assert config.num_res_blocks == (2, 4, 8, 8)
    assert config.strides == (2, 2, 2, 2)
    assert config.self_attention == config.text_attention == (False, False, False, True)
    assert config.num_heads == 8
    assert config.low_res_residual is False


def test_settings_are_frozen_values():
    one, same = StageConfig(), StageConfig()
    other = StageConfig(train=TrainConfig(batch_size=16))
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, other}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.resolution = 128


def test_settings_can_be_a_static_argument():
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def scaled(config, x):
        traced.append(config.resolution)
        return x * config.resolution

    x = jnp.ones(())
    assert scaled(StageConfig(), x) == scaled(StageConfig(), x) == 64
    assert scaled(StageConfig(resolution=128), x) == 128
    assert traced == [64, 128]


@pytest.mark.parametrize(
    ("network", "factor"),
    [
        (UNetConfig(), 8),
        (UNetConfig(patch_size=4), 32),
        (EfficientUNetConfig(), 16),
        (EfficientUNetConfig(strides=(1, 2, 4, 1), patch_size=2), 16),
    ],
)
def test_downsampling(network, factor):
    assert network.downsampling == factor


@pytest.mark.parametrize(("low_res", "expected"), [(0, False), (64, True)])
def test_a_low_res_resolution_makes_a_super_resolution_stage(low_res, expected):
    config = StageConfig(resolution=256, low_res_resolution=low_res)
    assert config.is_super_resolution is expected


# (settings, fields, message). One level: UNet and EfficientUNet lists have one entry.
UNET = functools.partial(
    UNetConfig, channel_mults=(1,), num_res_blocks=(1,), attention=(True,)
)
EFFICIENT = functools.partial(
    EfficientUNetConfig,
    channels=(16,),
    num_res_blocks=(1,),
    strides=(2,),
    self_attention=(False,),
    text_attention=(False,),
)
REFUSED = [
    (UNET, {"num_res_blocks": (1, 2)}, "channel_mults has 1 levels, network.num_res"),
    (UNET, {"attention": ()}, "channel_mults has 1 levels, network.attention 0"),
    (UNET, {"channel_mults": ()}, "network.channel_mults is empty"),
    (UNET, {"channels": 0}, "network.channels is 0; it must be greater than 0"),
    (UNET, {"channel_mults": (0,)}, "network.channel_mults is (0,); it must be grea"),
    (UNET, {"num_res_blocks": (0,)}, "network.num_res_blocks is (0,); it must be gr"),
    (UNET, {"head_dim": 0}, "network.head_dim is 0; it must be greater than 0"),
    (UNET, {"head_dim": 48}, "head_dim is 48; it must divide the width 512"),
    (UNET, {"patch_size": 0}, "network.patch_size is 0; it must be greater than 0"),
    (UNET, {"norm_groups": -1}, "network.norm_groups is -1; it must be greater"),
    (UNET, {"text_proj_width": -1}, "network.text_proj_width is -1; it must be at le"),
    (EFFICIENT, {"channels": ()}, "network.channels is empty"),
    (EFFICIENT, {"channels": (0,)}, "network.channels is (0,); it must be greater"),
    (EFFICIENT, {"num_res_blocks": ()}, "levels, network.num_res_blocks 0; they must"),
    (EFFICIENT, {"num_res_blocks": (0,)}, "network.num_res_blocks is (0,); it must"),
    (EFFICIENT, {"strides": (2, 2)}, "has 1 levels, network.strides 2"),
    (EFFICIENT, {"strides": (0,)}, "network.strides is (0,); it must be greater"),
    (EFFICIENT, {"self_attention": ()}, "has 1 levels, network.self_attention 0"),
    (EFFICIENT, {"text_attention": ()}, "has 1 levels, network.text_attention 0"),
    (EFFICIENT, {"num_heads": 0}, "network.num_heads is 0; it must be greater than 0"),
    (EFFICIENT, {"patch_size": 0}, "network.patch_size is 0"),
    (EFFICIENT, {"norm_groups": 0}, "network.norm_groups is 0"),
    (EFFICIENT, {"text_proj_width": -1}, "network.text_proj_width is -1"),
    (
        EFFICIENT,
        {"self_attention": (True,), "num_heads": 3},
        "network.num_heads is 3; it must divide the width 16",
    ),
    (
        EFFICIENT,
        {"text_attention": (True,), "num_heads": 3},
        "network.num_heads is 3; it must divide the width 16",
    ),
    (ScheduleConfig, {"logsnr_min": 5.0, "logsnr_max": 5.0}, "less than logsnr_max, 5"),
    (ScheduleConfig, {"std": 0.0}, "schedule.std is 0.0; it must be greater than 0"),
    (
        DiffusionConfig,
        {"cond_drop_prob": 1.0},
        "cond_drop_prob is 1.0; it must be in [",
    ),
    (DiffusionConfig, {"cond_drop_prob": -0.1}, "diffusion.cond_drop_prob is -0.1"),
    (TextConfig, {"width": 0}, "text.width is 0; it must be greater than 0"),
    (TextConfig, {"max_length": 0}, "text.max_length is 0; it must be greater than 0"),
    (DataConfig, {"num_threads": 0}, "data.num_threads is 0; it must be greater"),
    (DataConfig, {"max_bad_share": 1.5}, "max_bad_share is 1.5; it must be in [0, 1]"),
    (OptimizerConfig, {"learning_rate": -1.0}, "optimizer.learning_rate is -1.0; it m"),
    (
        OptimizerConfig,
        {"learning_rate": float("nan")},
        "optimizer.learning_rate is nan",
    ),
    (OptimizerConfig, {"warmup_steps": -1}, "optimizer.warmup_steps is -1"),
    (OptimizerConfig, {"eps": -1.0}, "optimizer.eps is -1.0"),
    (OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay is -1.0"),
    (OptimizerConfig, {"clip_norm": -1.0}, "optimizer.clip_norm is -1.0"),
    (OptimizerConfig, {"b1": 1.0}, "optimizer.b1 is 1.0; it must be in [0, 1)"),
    (OptimizerConfig, {"b2": 2.0}, "optimizer.b2 is 2.0; it must be in [0, 1)"),
    (TrainConfig, {"batch_size": 0}, "train.batch_size is 0; it must be greater"),
    (TrainConfig, {"num_steps": -5}, "train.num_steps is -5"),
    (TrainConfig, {"microbatches": 0}, "train.microbatches is 0"),
    (TrainConfig, {"microbatches": 3}, "microbatches is 3; it must divide train.batch"),
    (TrainConfig, {"log_every": 0}, "train.log_every is 0"),
    (TrainConfig, {"checkpoint_every": 0}, "train.checkpoint_every is 0"),
    (TrainConfig, {"keep_checkpoints": 0}, "train.keep_checkpoints is 0"),
    (TrainConfig, {"max_skipped_in_row": 0}, "train.max_skipped_in_row is 0"),
    (TrainConfig, {"preview_every": -1}, "train.preview_every is -1; it must be at le"),
    (TrainConfig, {"ema_decays": ()}, "train.ema_decays is empty"),
    (TrainConfig, {"ema_decays": (0.9, 1.0)}, "train.ema_decays is (0.9, 1.0); it mus"),
    (SamplerConfig, {"num_steps": 0}, "sampler.num_steps is 0"),
    (SamplerConfig, {"aug_level": 1.1}, "sampler.aug_level is 1.1; it must be in [0,"),
    (SamplerConfig, {"stochasticity": -0.5}, "sampler.stochasticity is -0.5"),
    (SamplerConfig, {"percentile": 101.0}, "percentile is 101.0; it must be in [0, 1"),
    (SamplerConfig, {"threshold_cap": 0.5}, "threshold_cap is 0.5; it must be at leas"),
    (PreviewConfig, {"count": 0}, "preview.count is 0; it must be greater than 0"),
    (PreviewConfig, {"num_steps": -1}, "preview.num_steps is -1; it must be at least"),
    (StageConfig, {"resolution": 0}, "resolution is 0; it must be greater than 0"),
    (StageConfig, {"resolution": 60}, "shrinks it by 8, so it must be a multiple"),
    (StageConfig, {"low_res_resolution": -64}, "low_res_resolution is -64; it must be"),
    (StageConfig, {"low_res_resolution": 24}, "low_res_resolution is 24; it must divi"),
    (
        StageConfig,
        {"low_res_resolution": 128},
        "it must divide resolution, 64, or be 0",
    ),
    (StageConfig, {"seed": -1}, "seed is -1; it must be at least 0"),
    (
        StageConfig,
        {"network": EFFICIENT(low_res_residual=True), "low_res_resolution": 32},
        "diffusion.prediction must be 'x0', not 'eps'",
    ),
    (
        StageConfig,
        {
            "network": EFFICIENT(low_res_residual=True),
            "diffusion": DiffusionConfig(prediction="x0"),
        },
        "network.low_res_residual needs a low-res picture",
    ),
]


@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    REFUSED,
    ids=[f"{i}-{'-'.join(fields)}" for i, (_, fields, _) in enumerate(REFUSED)],
)
def test_what_cannot_work_is_refused(settings, fields, message):
    with pytest.raises(UserError) as error:
        settings(**fields)
    assert message in str(error.value)


def test_the_edges_of_what_can_work_are_accepted():
    UNET(head_dim=512)
    UNET(attention=(False,), head_dim=48)  # no attention, no heads to divide
    EFFICIENT(self_attention=(True,), num_heads=16)
    DiffusionConfig(cond_drop_prob=0.0)
    DataConfig(max_bad_share=1.0)
    OptimizerConfig(warmup_steps=0, b1=0.0)
    TrainConfig(ema_decays=(0.0, 0.5), preview_every=0)
    SamplerConfig(aug_level=1.0, stochasticity=1.0, percentile=100.0, threshold_cap=1.0)
    StageConfig(low_res_resolution=64)  # a stage may also keep the resolution
