"""What the doctor says of a stage, as figures and in words."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.training.health.faults import Finding
from imagen_jax.training.overfit import Pictures


class Verdict(NamedTuple):
    """What the doctor says; `samples` and `psnr_db` are None if a fault came first.

    Attributes:
      faults: what is wrong; empty = nothing so far.
      num_steps: steps trained.
      pictures: what was to be learned.
      needed_db: what the median PSNR must exceed.
      samples: the last pictures sampled.
      psnr_db: theirs.
    """

    faults: list[Finding]
    num_steps: int
    pictures: Pictures
    needed_db: float
    samples: UInt8[np.ndarray, "n r r 3"] | None = None
    psnr_db: Float[np.ndarray, " n"] | None = None

    @property
    def median_db(self) -> float:
        """Median PSNR of the samples; 0 where there are none."""
        return 0.0 if self.psnr_db is None else float(np.median(self.psnr_db))

    @property
    def passes(self) -> bool:
        """Whether the pictures were sampled back and nothing is wrong."""
        return not self.faults and self.median_db > self.needed_db

    @property
    def not_overfitted(self) -> Finding:
        """The fault of a stage that ends without another, and does not pass."""
        text = (
            f"the pictures come back with a median PSNR of {self.median_db:.1f} dB, "
            f"more than {self.needed_db:.1f} is needed, although all else looks well"
        )
        return Finding("overfitting", text, "not overfitted")

    @property
    def samples_text(self) -> str:
        """How near the last samples come, in words."""
        if self.samples is None or self.psnr_db is None:
            return "nothing sampled"
        drift = self.samples.astype(np.float32) - self.pictures.image
        levels = ", ".join(f"{level:+.1f}" for level in drift.mean(axis=(0, 1, 2)))
        return (
            f"sampled back: PSNR {self.median_db:.1f} dB (median), "
            f"{self.psnr_db.min():.1f} to {self.psnr_db.max():.1f}; colour drift "
            f"{levels} of 255"
        )

    @property
    def text(self) -> str:
        """The verdict: one line, and for each fault what was seen and what to do."""
        steps = f"after {self.num_steps} step{'s' * (self.num_steps != 1)}"
        if self.passes:
            return (
                f"PASS {steps}: {len(self.pictures.captions)} pictures sampled back "
                f"with a median PSNR of {self.median_db:.1f} dB, more than "
                f"{self.needed_db:.1f} is needed"
            )
        names = ", ".join(dict.fromkeys(fault.fault for fault in self.faults))
        lines = [line for fault in self.faults for line in fault.lines]
        return "\n".join([f"FAIL {steps}: {names}", *lines])
