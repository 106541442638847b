"""Noise schedules: how time maps to log-SNR, and back.

t is in [0, 1] with 0 = clean and 1 = noise. logsnr = log(alpha^2 / sigma^2) falls
strictly with t, up to its clipping at `logsnr_min` and `logsnr_max`; everything else in
the package is a function of logsnr, so a schedule is only this map and its inverse.

  cosine            alpha^2 = cos^2(u), u = (t + s) / (1 + s) pi / 2, s = 0.008
                    (improved DDPM, arXiv:2102.09672, eq. 17, without its division by
                    the value at t = 0): logsnr = -2 log tan u, clipped.
  cosine_truncated  logsnr = -2 log tan(a t + b), a and b such that t = 0 gives
                    logsnr_max and t = 1 logsnr_min (progressive distillation,
                    arXiv:2202.00512): no flat part at the ends.
  linear            -log alpha^2 = 0.1 t + 9.95 t^2: the continuous limit of 1000 betas
                    from 1e-4 to 0.02 (Score-SDE, arXiv:2011.13456, eq. 33).
  normal            logsnr = -std Phi^-1(t), Phi the normal distribution's cumulative
                    function: uniform t give normal log-SNRs, as EDM draws them in
                    training (arXiv:2206.00364, table 1: std 2.4 around 2.4, as its
                    ln sigma = -logsnr / 2 has 1.2 around -1.2).

Imagen names the cosine schedule for the base and SR256 stages and the linear one for
SR1024, without formulas (arXiv:2205.11487, appendices F.1 to F.3). The approximation
1e-4 + 10 t^2 of the linear schedule, found elsewhere, is wrong by up to 0.55 and is not
used.

Why clipping: the cosine schedule ends at logsnr = -inf and the linear one starts at
+inf, where sigma or alpha vanishes and the conversions between eps and x0 divide by 0.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("cosine", "cosine_truncated", "linear", "normal")


@runtime_checkable
class NoiseSchedule(Protocol):
    """A strictly falling map from time to log-SNR; both methods work elementwise."""

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at times t in [0, 1]."""
        ...

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the times in [0, 1] with these log-SNRs; the nearest end outside."""
        ...


def _angle_logsnr(
    t: Float[Array, "*shape"], start: float, end: float
) -> Float[Array, "*shape"]:
    """Returns -2 log tan(u), with the angle u linear in t.

    u runs from `start` at t = 0 to pi/2 - `end` at t = 1. cos u is computed as
    sin(pi/2 - u), because near t = 1 a float32 tangent of u has no correct digit (pi/2
    rounds upwards, so that tan(pi/2) is even negative).
    """
    slope = math.pi / 2 - start - end
    sine = jnp.sin(start + slope * t)
    cosine = jnp.sin(end + slope * (1.0 - t))
    return 2.0 * (jnp.log(cosine) - jnp.log(sine))


def _angle_t(
    logsnr: Float[Array, "*shape"], start: float, end: float
) -> Float[Array, "*shape"]:
    """Returns the inverse of `_angle_logsnr`, clipped to [0, 1]."""
    slope = math.pi / 2 - start - end
    angle = jnp.arctan(jnp.exp(-0.5 * logsnr))
    return jnp.clip((angle - start) / slope, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """alpha^2 = cos^2((t + s) / (1 + s) pi / 2), clipped in log-SNR.

    Attributes:
      s: keeps some noise at t = 0 (logsnr 8.77 at s = 0.008).
      logsnr_min: lowest value returned; reached just before t = 1.
      logsnr_max: highest value returned; reached only if s is tiny.
    """

    s: float = 0.008
    logsnr_min: float = -20.0
    logsnr_max: float = 20.0

    @property
    def _start(self) -> float:
        return self.s / (1.0 + self.s) * math.pi / 2

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at t."""
        value = _angle_logsnr(t, self._start, 0.0)
        return jnp.clip(value, self.logsnr_min, self.logsnr_max)

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the time with this log-SNR."""
        return _angle_t(logsnr, self._start, 0.0)


@dataclasses.dataclass(frozen=True)
class TruncatedCosineSchedule:
    """The cosine schedule whose angle runs between the two log-SNR limits.

    Attributes:
      logsnr_min: value at t = 1.
      logsnr_max: value at t = 0.
    """

    logsnr_min: float = -20.0
    logsnr_max: float = 20.0

    @property
    def _ends(self) -> tuple[float, float]:
        start = math.atan(math.exp(-0.5 * self.logsnr_max))
        end = math.atan(math.exp(0.5 * self.logsnr_min))
        return start, end

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at t."""
        value = _angle_logsnr(t, *self._ends)
        return jnp.clip(value, self.logsnr_min, self.logsnr_max)  # rounding at the ends

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the time with this log-SNR."""
        return _angle_t(logsnr, *self._ends)


@dataclasses.dataclass(frozen=True)
class LinearSchedule:
    """alpha^2 = exp(-B), B = beta_min t + (beta_max - beta_min) t^2 / 2, clipped.

    Attributes:
      logsnr_min: lowest value returned (t = 1 gives -10.05 unclipped).
      logsnr_max: highest value returned; reached just after t = 0.
      beta_min: noise rate at t = 0.
      beta_max: noise rate at t = 1.
    """

    logsnr_min: float = -20.0
    logsnr_max: float = 20.0
    beta_min: float = 0.1
    beta_max: float = 20.0

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at t: log(e^-B / (1 - e^-B)) = -log(expm1(B))."""
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        value = -jnp.log(jnp.expm1(integral))
        return jnp.clip(value, self.logsnr_min, self.logsnr_max)

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the time with this log-SNR."""
        integral = jax.nn.softplus(-logsnr)
        # The root of the quadratic in the form that does not cancel for small B.
        span = self.beta_max - self.beta_min
        root = jnp.sqrt(self.beta_min**2 + 2.0 * span * integral)
        return jnp.clip(2.0 * integral / (self.beta_min + root), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class NormalSchedule:
    """Log-SNRs that are normally distributed over [0, 1], around 0, clipped.

    Made for training. Evenly spaced times leap over its thin ends, the first step from
    `logsnr_min` to the middle, so sample with the spacing "uniform_logsnr" or "karras":
    with "uniform_t" ancestral sampling converges slowly.

    Attributes:
      std: standard deviation of the log-SNR; EDM's is 2.4.
      logsnr_min: lowest value returned.
      logsnr_max: highest value returned.
    """

    std: float
    logsnr_min: float = -20.0
    logsnr_max: float = 20.0

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at t."""
        value = -self.std * jax.scipy.special.ndtri(t)
        return jnp.clip(value, self.logsnr_min, self.logsnr_max)

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the time with this log-SNR."""
        return jax.scipy.special.ndtr(-logsnr / self.std)


@dataclasses.dataclass(frozen=True)
class ShiftedSchedule:
    """Another schedule with `shift` added to its log-SNR. Source: arXiv:2301.11093.

    Attributes:
      base: the schedule that is shifted.
      shift: added log-SNR; negative for more noise, see `resolution_shift`.
    """

    base: NoiseSchedule
    shift: float

    def logsnr(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log-SNR at t."""
        return self.base.logsnr(t) + self.shift

    def t(self, logsnr: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the time with this log-SNR."""
        return self.base.t(logsnr - self.shift)


def resolution_shift(resolution: int) -> float:
    """Returns the shift that keeps the noise on coarse structure as at 64 pixels.

    Averaging over k x k pixels divides the noise's variance by k^2, so a picture d wide
    needs logsnr_64 + 2 log(64 / d).

    Args:
      resolution: width of the picture in pixels.

    Returns:
      The shift; 0 at 64, -2.77 at 256, -5.55 at 1024.

    Source: Simple Diffusion, arXiv:2301.11093.
    """
    return 2.0 * math.log(64 / resolution)


def make_schedule(
    kind: str,
    logsnr_min: float,
    logsnr_max: float,
    shift: float = 0.0,
    std: float = 2.4,
) -> NoiseSchedule:
    """Returns the schedule that a config names.

    Args:
      kind: one of `KINDS`.
      logsnr_min: lower clip of the result, after the shift.
      logsnr_max: upper clip of the result, after the shift.
      shift: added to the log-SNR, see `ShiftedSchedule`.
      std: of "normal", see `NormalSchedule`.

    Raises:
      ValueError: on an unknown kind.
    """
    limits = {"logsnr_min": logsnr_min - shift, "logsnr_max": logsnr_max - shift}
    match kind:
        case "cosine":
            base = CosineSchedule(**limits)
        case "cosine_truncated":
            base = TruncatedCosineSchedule(**limits)
        case "linear":
            base = LinearSchedule(**limits)
        case "normal":
            base = NormalSchedule(std, **limits)
        case _:
            raise ValueError(f"schedule kind {kind!r} is not one of {', '.join(KINDS)}")
    return ShiftedSchedule(base, shift) if shift else base
