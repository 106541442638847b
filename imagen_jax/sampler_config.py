"""Frozen settings of sampling: the defaults that a stage carries with it.

`SamplerConfig` is a part of `imagen_jax.config.StageConfig`, and every value can be
given anew when sampling. What cannot work together is refused here, naming the keys.
"""

import dataclasses
import itertools
import math
from typing import Literal

from imagen_jax.config_checks import check_positive, check_range
from imagen_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """Defaults for sampling a stage.

    Attributes:
      kind: "ddpm" (ancestral), "ddim", "dpmpp_2m" (DPM-Solver++ 2M), "unipc" or "heun"
        (EDM); see `diffusion.samplers`.
      num_steps: steps, each one network evaluation (a pair of them, cond and uncond,
        under guidance); "heun" makes two in every step but the last.
      stochasticity: gamma of "ddpm", eta of "ddim"; of "dpmpp_2m" 0 is the ODE and 1
        the SDE form; of "heun" the churn. "unipc" takes 0 only.
      spacing: where the steps are; see `diffusion.spacing`.
      times: for spacing "explicit": num_steps falling times in (0, 1].
      spacing_limits: log-SNRs between which "uniform_logsnr" and "karras" run, narrowed
        by the schedule's own ends; EDM's sigmas 80 and 0.002.
      karras_rho: for spacing "karras"; the larger, the more steps at low noise.
      guidance_weight: w of the paper, 1 = no guidance.
      guidance: how w runs over the steps; see `diffusion.guidance.guidance_weights`.
      guidance_low: the lower w of "oscillating".
      guidance_hold: share of the steps before "oscillating" begins.
      guidance_interval: (low, high) log-SNR outside which w is 1; () is no limit.
      guidance_rescale: phi of rescaled guidance, 0 = off.
      threshold: what is done to x0 at each step; "capped" is "dynamic" that requires
        `threshold_cap`.
      percentile: p of dynamic thresholding, in percent.
      threshold_cap: upper limit of its s; 0 means none.
      aug_level: noise put on the low-res picture, in [0, 1]; 0 = clean.
    """

    kind: Literal["ddpm", "ddim", "dpmpp_2m", "unipc", "heun"] = "ddpm"
    num_steps: int = 250
    stochasticity: float = 0.0
    spacing: Literal["uniform_t", "uniform_logsnr", "karras", "explicit"] = "uniform_t"
    times: tuple[float, ...] = ()
    spacing_limits: tuple[float, ...] = (-8.76, 12.43)
    karras_rho: float = 7.0
    guidance_weight: float = 1.0
    guidance: Literal["constant", "oscillating"] = "constant"
    guidance_low: float = 1.0
    guidance_hold: float = 0.1
    guidance_interval: tuple[float, ...] = ()
    guidance_rescale: float = 0.0
    threshold: Literal["none", "static", "dynamic", "capped"] = "dynamic"
    percentile: float = 99.5
    threshold_cap: float = 0.0
    aug_level: float = 0.0

    def __post_init__(self):
        check_positive("sampler.", self, "num_steps", "karras_rho")
        check_range("sampler.", self, 0, 1, "stochasticity", "aug_level")
        check_range("sampler.", self, 0, 1, "guidance_hold", "guidance_rescale")
        check_range("sampler.", self, 0, 100, "percentile")
        for name in ("guidance_weight", "guidance_low"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(
                    f"sampler.{name} is {getattr(self, name)}; it must be a finite "
                    "number, 1 is no guidance"
                )
        self._check_combinations()
        self._check_times()
        _check_limits("spacing_limits", self.spacing_limits)
        if self.guidance_interval:
            _check_limits("guidance_interval", self.guidance_interval)

    def _check_combinations(self) -> None:
        if self.threshold_cap != 0 and not self.threshold_cap >= 1:
            raise UserError(
                f"sampler.threshold_cap is {self.threshold_cap}; it must be at least "
                "1, or 0 for none"
            )
        if self.threshold == "capped" and not self.threshold_cap:
            raise UserError(
                "sampler.threshold is 'capped' and sampler.threshold_cap 0; give a cap "
                "of at least 1, e.g. 1.5, or take 'dynamic'"
            )
        if self.kind == "unipc" and self.stochasticity != 0:
            raise UserError(
                f"sampler.stochasticity is {self.stochasticity}; sampler.kind 'unipc' "
                "is deterministic and takes 0 only"
            )

    def _check_times(self) -> None:
        if (self.spacing == "explicit") != bool(self.times):
            raise UserError(
                f"sampler.spacing is {self.spacing!r} and sampler.times has "
                f"{len(self.times)} entries; 'explicit' needs times, and only "
                "'explicit' reads them"
            )
        if not self.times:
            return
        if len(self.times) != self.num_steps:
            raise UserError(
                f"sampler.times has {len(self.times)} entries and sampler.num_steps is "
                f"{self.num_steps}; they must match"
            )
        falling = all(t > s for t, s in itertools.pairwise((*self.times, 0.0)))
        if not falling or not self.times[0] <= 1.0:
            raise UserError(
                f"sampler.times is {self.times}; the times must fall, from at most 1 "
                "to above 0 (the step to 0 is added)"
            )


def _check_limits(name: str, limits: tuple[float, ...]) -> None:
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise UserError(
            f"sampler.{name} is {limits}; it must be two log-SNRs, the lower first"
        )
