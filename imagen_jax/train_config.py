"""Frozen settings of training: optimizer, loop, held-out loss.

They are groups of `imagen_jax.config.StageConfig`, which says what all have in common.
"""

import dataclasses
import re
from typing import Literal

from imagen_jax.config_checks import (
    check_not_negative,
    check_positive,
    check_share,
)
from imagen_jax.errors import UserError


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
      freeze: regular expression; parameters whose path ("level/layer/kernel") it is
        found in keep their values. "" trains all.
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
    freeze: str = ""

    def __post_init__(self):
        check_not_negative("optimizer.", self, "learning_rate", "warmup_steps", "eps")
        check_not_negative("optimizer.", self, "weight_decay", "clip_norm")
        check_share("optimizer.", self, "b1", "b2")
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise UserError(
                f"optimizer.freeze is {self.freeze!r}, not a regular expression: "
                f"{error}"
            ) from error


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
      keep_checkpoints: how many of the newest are kept.
      keep_every: those of steps that it divides are kept as well; 0 means none.
      keep_best: the one with the lowest held-out loss is kept as well.
      preview_every: period of preview grids; 0 means none.
      heldout_every: period of the held-out loss; 0 means none.
      health_every: period of the health report in words; 0 means none.
      wandb_project: where Weights & Biases gets the metrics too; "" means not.
      max_skipped_in_row: the run stops after so many non-finite updates in a row.
    """

    batch_size: int = 2048
    num_steps: int = 2_500_000
    microbatches: int = 1
    ema_decays: tuple[float, ...] = (0.9999,)
    log_every: int = 100
    checkpoint_every: int = 5_000
    keep_checkpoints: int = 3
    keep_every: int = 0
    keep_best: bool = False
    preview_every: int = 0
    heldout_every: int = 0
    health_every: int = 0
    wandb_project: str = ""
    max_skipped_in_row: int = 20

    def __post_init__(self):
        check_positive("train.", self, "batch_size", "num_steps", "microbatches")
        check_positive("train.", self, "log_every", "checkpoint_every")
        check_positive("train.", self, "keep_checkpoints", "max_skipped_in_row")
        check_not_negative("train.", self, "keep_every", "preview_every")
        check_not_negative("train.", self, "heldout_every", "health_every")
        check_share("train.", self, "ema_decays")
        if self.batch_size % self.microbatches:
            raise UserError(
                f"train.microbatches is {self.microbatches}; it must divide "
                f"train.batch_size, {self.batch_size}"
            )
        if not self.ema_decays:
            raise UserError("train.ema_decays is empty; give at least one decay")
        period = self.heldout_every
        if self.keep_best and (not period or self.checkpoint_every % period):
            raise UserError(
                f"train.keep_best needs train.heldout_every, now {period}, to divide "
                f"train.checkpoint_every, {self.checkpoint_every}"
            )


@dataclasses.dataclass(frozen=True)
class HeldoutConfig:
    """The loss on pictures that are not trained on (`train.heldout_every`).

    Attributes:
      source: as `data.source`; its captions must be in the embedding store.
      count: pictures, evenly spaced over the source.
      times: noise levels per picture; the loss is also given by bin of log-SNR.
    """

    source: str = ""
    count: int = 256
    times: int = 8

    def __post_init__(self):
        check_positive("heldout.", self, "count", "times")
