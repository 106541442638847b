"""Frozen settings of a stage.

One `StageConfig` describes one stage of the cascade, hence one run. It is built of
frozen, hashable dataclasses, so it can be a static argument of a jitted function, and
library code never sees an `ml_collections.ConfigDict`. Defaults are the paper's where
it gives a value. What cannot work together is refused here, once, naming the keys.

`imagen_jax.config_file` reads these settings from files and command lines.
"""

import dataclasses
import math
from typing import Literal

from imagen_jax.config_checks import (
    check_divides_widths,
    check_less,
    check_levels,
    check_not_negative,
    check_positive,
    check_range,
    check_share,
)
from imagen_jax.errors import UserError


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
        return self.patch_size * math.prod(self.strides)


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule; see `imagen_jax.diffusion.schedule.make_schedule`.

    `shift` is added to the log-SNR (2 log(64 / d) for pictures d pixels wide, Simple
    Diffusion); 0 is the paper's.
    """

    kind: Literal["cosine", "cosine_truncated", "linear"] = "cosine"
    logsnr_min: float = -20.0
    logsnr_max: float = 20.0
    shift: float = 0.0

    def __post_init__(self):
        check_less("diffusion.(aug_)schedule.", self, "logsnr_min", "logsnr_max")


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """What is predicted, how it is weighted, and what conditions it.

    Attributes:
      schedule: noise of the picture being denoised.
      prediction: what the network's output means; the paper's is "eps".
      weighting: weight on the square error, see `diffusion.loss.loss_weight`.
      times: how training times are drawn.
      cond_drop_prob: share of captions replaced by the null text; the paper's is 0.1.
      aug_schedule: maps aug_level in [0, 1] to the noise put on the low-res picture.
      aug_level_max: training draws aug_level uniformly from [0, aug_level_max]; the
        paper's is 1.
      low_res_upsample: how the low-res picture is brought to the stage's resolution.
    """

    schedule: ScheduleConfig = ScheduleConfig()
    prediction: Literal["eps", "v", "x0"] = "eps"
    weighting: Literal["plain", "eps", "v", "x0", "min_snr_5", "sigmoid"] = "plain"
    times: Literal["uniform", "low_discrepancy"] = "uniform"
    cond_drop_prob: float = 0.1
    aug_schedule: ScheduleConfig = ScheduleConfig()
    aug_level_max: float = 1.0
    low_res_upsample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __post_init__(self):
        check_share("diffusion.", self, "cond_drop_prob")
        if not 0.0 < self.aug_level_max <= 1.0:
            raise UserError(
                f"diffusion.aug_level_max is {self.aug_level_max}; it must be in (0, 1]"
            )


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The frozen text encoder that the stage is trained with.

    Attributes:
      encoder: name that `imagen_jax.text.encoder.load_encoder` knows.
      width: width of its hidden states.
      max_length: tokens per caption, padded and masked.
    """

    encoder: str = "t5_v1_1_xxl"
    width: int = 4096
    max_length: int = 128

    def __post_init__(self):
        check_positive("text.", self, "width", "max_length")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where pictures and embeddings come from.

    Attributes:
      source: as `imagen_jax.data.sources.opening.open_source` reads it.
      store: folder of the embedding store made by `python -m imagen_jax.embed`.
      cache: keep decoded pictures in memory (small sets).
      num_threads: threads that decode ahead of the step.
      max_bad_share: the run stops when more of the pictures than this are unreadable.
    """

    source: str = ""
    store: str = ""
    cache: bool = False
    num_threads: int = 2
    max_bad_share: float = 0.01

    def __post_init__(self):
        check_positive("data.", self, "num_threads")
        check_range("data.", self, 0, 1, "max_bad_share")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer. Paper, appendix F: Adafactor for the base, Adam for SR.

    Attributes:
      kind: "adafactor" (optax defaults), "adam" or "muon".
      learning_rate: peak; reached linearly after `warmup_steps`.
      warmup_steps: steps of linear warm-up from 0.
      decay: after warm-up: "constant", or "cosine" down to 0 at the last step.
      b1: Adam's first-moment decay (of "muon": for what is not a matrix).
      b2: Adam's second-moment decay (likewise).
      eps: Adam's epsilon.
      weight_decay: decoupled; times the learning rate, except in optax's "adafactor".
      clip_norm: global gradient norm limit; 0 means none.
    """

    kind: Literal["adafactor", "adam", "muon"] = "adam"
    learning_rate: float = 1e-4
    warmup_steps: int = 10_000
    decay: Literal["constant", "cosine"] = "constant"
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    def __post_init__(self):
        check_not_negative("optimizer.", self, "learning_rate", "warmup_steps", "eps")
        check_not_negative("optimizer.", self, "weight_decay", "clip_norm")
        check_share("optimizer.", self, "b1", "b2")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop: sizes and periods, in steps.

    Attributes:
      batch_size: pictures per step over all devices.
      num_steps: length of the run.
      microbatches: the batch is taken in this many parts, gradients summed.
      ema_decays: one exponential average of the parameters per entry, warmed up.
      log_every: period of metrics.
      checkpoint_every: period of checkpoints.
      keep_checkpoints: how many are kept.
      preview_every: period of preview grids; 0 means none.
      max_skipped_in_row: the run stops after so many non-finite updates in a row.
    """

    batch_size: int = 2048
    num_steps: int = 2_500_000
    microbatches: int = 1
    ema_decays: tuple[float, ...] = (0.9999,)
    log_every: int = 100
    checkpoint_every: int = 5_000
    keep_checkpoints: int = 3
    preview_every: int = 0
    max_skipped_in_row: int = 20

    def __post_init__(self):
        check_positive("train.", self, "batch_size", "num_steps", "microbatches")
        check_positive("train.", self, "log_every", "checkpoint_every")
        check_positive("train.", self, "keep_checkpoints", "max_skipped_in_row")
        check_not_negative("train.", self, "preview_every")
        check_share("train.", self, "ema_decays")
        if self.batch_size % self.microbatches:
            raise UserError(
                f"train.microbatches is {self.microbatches}; it must divide "
                f"train.batch_size, {self.batch_size}"
            )
        if not self.ema_decays:
            raise UserError("train.ema_decays is empty; give at least one decay")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; one axis may be -1 = all that are left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Defaults for sampling this stage; every value can be given anew when sampling.

    Attributes:
      kind: "ddpm" (ancestral) or "ddim".
      num_steps: network evaluations (each a pair, cond and uncond).
      stochasticity: gamma of "ddpm", eta of "ddim".
      guidance_weight: w of the paper, 1 = no guidance.
      threshold: what is done to x0 at each step.
      percentile: p of dynamic thresholding, in percent.
      threshold_cap: upper limit of its s; 0 means none.
      aug_level: noise put on the low-res picture, in [0, 1]; 0 = clean.
    """

    kind: Literal["ddpm", "ddim"] = "ddpm"
    num_steps: int = 250
    stochasticity: float = 0.0
    guidance_weight: float = 1.0
    threshold: Literal["none", "static", "dynamic"] = "dynamic"
    percentile: float = 99.5
    threshold_cap: float = 0.0
    aug_level: float = 0.0

    def __post_init__(self):
        check_positive("sampler.", self, "num_steps")
        check_range("sampler.", self, 0, 1, "stochasticity", "aug_level")
        check_range("sampler.", self, 0, 100, "percentile")
        if self.threshold_cap != 0 and not self.threshold_cap >= 1:
            raise UserError(
                f"sampler.threshold_cap is {self.threshold_cap}; it must be at least "
                "1, or 0 for none"
            )


@dataclasses.dataclass(frozen=True)
class PreviewConfig:
    """Grids of held-out prompts while training (`train.preview_every`).

    Attributes:
      source: as `data.source`; its captions must be in the embedding store.
      count: pictures in a grid.
      num_steps: sampler steps; 0 means the sampler's own.
      openmoji_set: the set to score the grid by ("default", ...); "" = no score.
    """

    source: str = ""
    count: int = 16
    num_steps: int = 0
    openmoji_set: str = ""

    def __post_init__(self):
        check_positive("preview.", self, "count")
        check_not_negative("preview.", self, "num_steps")


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage of the cascade = one run.

    Attributes:
      name: used in file names, e.g. "base" or "sr256".
      resolution: side of the pictures it makes.
      low_res_resolution: side of the pictures it is conditioned on; 0 for the base.
      seed: of parameters, data order and every random draw in training.
      platform: "any", or the only platform ("tpu", "gpu", "cpu") the run accepts.
    """

    name: str = "stage"
    resolution: int = 64
    low_res_resolution: int = 0
    seed: int = 0
    platform: Literal["any", "cpu", "gpu", "tpu"] = "any"
    text: TextConfig = TextConfig()
    network: UNetConfig | EfficientUNetConfig = UNetConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    mesh: MeshConfig = MeshConfig()
    sampler: SamplerConfig = SamplerConfig()
    preview: PreviewConfig = PreviewConfig()

    def __post_init__(self):
        check_positive("", self, "resolution")
        check_not_negative("", self, "low_res_resolution", "seed")
        if self.low_res_resolution and self.resolution % self.low_res_resolution:
            raise UserError(
                f"low_res_resolution is {self.low_res_resolution}; it must divide "
                f"resolution, {self.resolution}, or be 0 for a base stage"
            )
        if self.sampler.aug_level > self.diffusion.aug_level_max:
            raise UserError(
                f"sampler.aug_level is {self.sampler.aug_level}; the stage is trained "
                f"up to diffusion.aug_level_max, {self.diffusion.aug_level_max}"
            )
        residual = getattr(self.network, "low_res_residual", False)
        if residual and self.diffusion.prediction != "x0":
            raise UserError(
                "network.low_res_residual adds the low-res picture to the output, so "
                f"diffusion.prediction must be 'x0', not {self.diffusion.prediction!r}"
            )
        if residual and not self.low_res_resolution:
            raise UserError(
                "network.low_res_residual needs a low-res picture; set "
                "low_res_resolution"
            )
        if self.resolution % self.network.downsampling:
            raise UserError(
                f"resolution is {self.resolution}; the network shrinks it by "
                f"{self.network.downsampling}, so it must be a multiple of that"
            )

    @property
    def is_super_resolution(self) -> bool:
        """Whether the stage is conditioned on a low-resolution picture."""
        return self.low_res_resolution > 0
