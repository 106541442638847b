"""The denoising loss: training times, weights, and the weighted square error.

A network with outputs in eps, v or x0 space is trained on the mean square error in its
own space times a weight. At a fixed z an error in one space is the same error in
another up to a factor (with SNR = exp(logsnr)):

  |eps error|^2 = SNR |x0 error|^2 = alpha^2 |v error|^2

So one weight in eps space, times the factor of the network's space, covers every pair:

  kind       weight in eps space          in the network's own space
  plain      -                            1; with eps the loss of Imagen (appendix A)
  eps        1                            that of the paper, whatever is predicted
  x0         1 / SNR                      1 for x0
  v          1 / alpha^2                  1 for v
  min_snr_5  min(SNR, 5) / SNR            x0: min(SNR, 5), v: min(SNR, 5) / (SNR + 1)
                                          (arXiv:2303.09556)
  sigmoid    sigmoid(bias - logsnr)       (arXiv:2303.00848; SiD2, arXiv:2410.19324)

The sigmoid's bias is the log-SNR where it reaches 1/2. The papers put it on the
likelihood bound, which also carries -d logsnr / dt, so their biases do not transfer;
here it multiplies the plain eps error, with a bias of -1, this package's choice.

The paper draws t uniformly in [0, 1], so the schedule itself acts as a weight over
noise levels. VDM's low-discrepancy times (arXiv:2107.00630) cover [0, 1] evenly in each
batch and leave each single t uniform.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from imagen_jax.diffusion.parameterization import PREDICTIONS, target
from imagen_jax.diffusion.process import diffuse
from imagen_jax.diffusion.schedule import NoiseSchedule
from imagen_jax.interfaces import Conditioning, Denoiser

WEIGHTINGS = ("plain", "eps", "v", "x0", "min_snr_5", "sigmoid")

MIN_SNR_GAMMA = 5.0
SIGMOID_BIAS = -1.0


class Loss(NamedTuple):
    """The loss of each picture; its mean over the global batch is what is minimised."""

    weighted: Float[Array, " b"]
    square_error: Float[Array, " b"]  # unweighted, in the network's own space
    logsnr: Float[Array, " b"]


def sample_times(keys: Key[Array, " b"], kind: str) -> Float[Array, " b"]:
    """Returns one training time in [0, 1) per picture.

    Args:
      keys: one typed key per picture of the GLOBAL batch.
      kind: "uniform", each from its own key; or "low_discrepancy",
        t_i = (u + i / b) mod 1 with one u, from the first key.

    Raises:
      ValueError: on an unknown kind.
    """
    match kind:
        case "uniform":
            return jax.vmap(jax.random.uniform)(keys)
        case "low_discrepancy":
            b = keys.shape[0]
            return jnp.mod(jax.random.uniform(keys[0]) + jnp.arange(b) / b, 1.0)
        case _:
            raise ValueError(f"times {kind!r} is not one of uniform, low_discrepancy")


def _log_eps_weight(kind: str, logsnr: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns the logarithm of the weight on the eps-space error."""
    match kind:
        case "eps":
            return jnp.zeros_like(logsnr)
        case "x0":
            return -logsnr
        case "v":
            return -jax.nn.log_sigmoid(logsnr)
        case "min_snr_5":
            return jnp.minimum(jnp.log(MIN_SNR_GAMMA) - logsnr, 0.0)
        case "sigmoid":
            return jax.nn.log_sigmoid(SIGMOID_BIAS - logsnr)
        case _:
            raise ValueError(
                f"weighting {kind!r} is not one of {', '.join(WEIGHTINGS)}"
            )


def _log_eps_factor(prediction: str, logsnr: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns the logarithm of |eps error|^2 / |error in the network's own space|^2."""
    match prediction:
        case "eps":
            return jnp.zeros_like(logsnr)
        case "v":
            return jax.nn.log_sigmoid(logsnr)
        case "x0":
            return logsnr
        case _:
            raise ValueError(
                f"prediction {prediction!r} is not one of {', '.join(PREDICTIONS)}"
            )


def loss_weight(
    kind: str, prediction: str, logsnr: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Returns the weight on the square error in the network's own output space.

    Args:
      kind: one of `WEIGHTINGS`, see the module's docstring.
      prediction: what the network outputs: "eps", "v" or "x0".
      logsnr: log-SNR of each picture.

    Returns:
      Positive weights, not normalised over the batch.

    Raises:
      ValueError: on an unknown kind or prediction.
    """
    # Both factors reach e^20 and mostly cancel, hence sums of logarithms.
    log_factor = _log_eps_factor(prediction, logsnr)
    if kind == "plain":
        return jnp.ones_like(logsnr)
    return jnp.exp(_log_eps_weight(kind, logsnr) + log_factor)


def denoising_loss(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    x0: Float[Array, "b h w c"],
    eps: Float[Array, "b h w c"],
    t: Float[Array, " b"],
    cond: Conditioning,
    *,
    prediction: str,
    weighting: str,
) -> Loss:
    """Returns the loss of each picture at the given times and noise.

    It draws nothing: t and eps come from the caller, one key per picture of the global
    batch, so that a split or sharded batch has the same loss as the whole.

    Args:
      denoiser: the network.
      schedule: maps t to log-SNR.
      x0: clean pictures in [-1, 1], float32.
      eps: standard normal noise.
      t: times in [0, 1], 0 = clean.
      cond: conditioning, with dropout and augmentation already applied.
      prediction: what the network outputs: "eps", "v" or "x0".
      weighting: one of `WEIGHTINGS`.

    Source: arXiv:2205.11487, section 2.1 and appendix A.
    """
    logsnr = schedule.logsnr(t)
    wanted = target(prediction, x0, eps, logsnr)
    output = denoiser(diffuse(x0, eps, logsnr), logsnr, cond).astype(jnp.float32)
    square_error = jnp.mean(jnp.square(output - wanted), axis=(1, 2, 3))
    weight = loss_weight(weighting, prediction, logsnr)
    return Loss(weight * square_error, square_error, logsnr)
