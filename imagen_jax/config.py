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
    check_less,
    check_not_negative,
    check_positive,
    check_range,
    check_share,
)
from imagen_jax.errors import UserError
from imagen_jax.network_config import EfficientUNetConfig, UNetConfig
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.train_config import HeldoutConfig, OptimizerConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule; see `imagen_jax.diffusion.schedule.make_schedule`.

    `shift` is added to the log-SNR (2 log(64 / d) for pictures d pixels wide, Simple
    Diffusion); 0 is the paper's. `std` is the log-SNR's standard deviation, for the
    kind "normal" alone.
    """

    kind: Literal["cosine", "cosine_truncated", "linear", "normal"] = "cosine"
    logsnr_min: float = -20.0
    logsnr_max: float = 20.0
    shift: float = 0.0
    std: float = 2.4

    def __post_init__(self):
        check_less("diffusion.(aug_)schedule.", self, "logsnr_min", "logsnr_max")
        check_positive("diffusion.(aug_)schedule.", self, "std")


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


TEXT_IDENTITY = (
    "encoder",
    "width",
    "max_length",
    "cleaning",
    "weights_sha256",
    "tokenizer",
)


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The frozen text encoder that the stage is trained with.

    The fields of `TEXT_IDENTITY` say which embeddings a stage knows, so they never
    change in a run; the others say where the encoder is and how it runs.

    Attributes:
      encoder: a name of `imagen_jax.text.catalog`, or any if `weights_path` is given.
      width: width of its hidden states.
      max_length: tokens per caption, padded and masked.
      cleaning: what `imagen_jax.text.cleaning` does to a caption first.
      weights_sha256: hash of the encoder's weights; "" takes that of the embedding
        store or encoder that training starts with, and config.json records it.
      tokenizer: the tokenizer's file name and hash, likewise.
      weights_path: folder, hub name or T5X checkpoint; "" takes the catalog's.
      tokenizer_path: file or folder; "" takes the one beside the weights.
      dtype: the encoder's compute type; norms and softmax are float32 in any case.
      on_the_fly: encode captions inside the training job, on its mesh, instead of
        reading `data.store`; for data too large to store.
    """

    encoder: str = "t5_v1_1_xxl"
    width: int = 4096
    max_length: int = 128
    cleaning: str = "none"
    weights_sha256: str = ""
    tokenizer: str = ""
    weights_path: str = ""
    tokenizer_path: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    on_the_fly: bool = False

    def __post_init__(self):
        check_positive("text.", self, "width", "max_length")

    @property
    def identity(self) -> dict[str, str | int]:
        """The fields that say which embeddings a stage knows."""
        return {name: getattr(self, name) for name in TEXT_IDENTITY}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where pictures and embeddings come from.

    Attributes:
      source: as `imagen_jax.data.sources.opening.open_source` reads it.
      store: folder of the embedding store made by `python -m imagen_jax.embed`.
      crop_size: side of the training crops of a super-resolution stage (section 2.5),
        which must have no self-attention; 0 trains on whole pictures.
      cache: keep decoded pictures in memory (small sets).
      num_threads: threads that decode ahead of the step.
      max_bad_share: the run stops when more of the pictures than this are unreadable.
    """

    source: str = ""
    store: str = ""
    crop_size: int = 0
    cache: bool = False
    num_threads: int = 2
    max_bad_share: float = 0.01

    def __post_init__(self):
        check_positive("data.", self, "num_threads")
        check_not_negative("data.", self, "crop_size")
        check_range("data.", self, 0, 1, "max_bad_share")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis of the mesh; one axis may be -1 = all that are left.

    Attributes:
      data: copies of the parameters, each with its part of the batch.
      fsdp: parts of the parameters and of the batch.
      tensor: parts of attention heads and of channels.
      num_slices: TPU slices (or hosts with GPUs) whose links among each other are slow;
        `data` runs over them, so it must be a multiple.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    num_slices: int = 1

    def __post_init__(self):
        check_positive("mesh.", self, "num_slices")


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
    heldout: HeldoutConfig = HeldoutConfig()

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
        self._check_crop()
        if self.train.heldout_every and not self.heldout.source:
            raise UserError(
                f"train.heldout_every is {self.train.heldout_every}; set "
                "heldout.source to pictures that data.source does not hold"
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

    def _check_crop(self) -> None:
        size = self.data.crop_size
        if not size:
            return
        if not self.low_res_resolution or size > self.resolution:
            raise UserError(
                f"data.crop_size is {size}; only a super-resolution stage takes crops, "
                f"at most as large as its resolution, {self.resolution}"
            )
        step = math.lcm(
            self.network.downsampling, self.resolution // self.low_res_resolution
        )
        if size % step:
            raise UserError(
                f"data.crop_size is {size}; it must be a multiple of {step}, so that "
                "the network and the low-res picture divide it"
            )
        if any(getattr(self.network, "self_attention", (True,))):
            raise UserError(
                f"data.crop_size is {size}, and network.self_attention is not False at "
                "every level: a network that attends over the picture cannot be "
                "trained on crops and sampled on whole pictures"
            )

    @property
    def is_super_resolution(self) -> bool:
        """Whether the stage is conditioned on a low-resolution picture."""
        return self.low_res_resolution > 0
