"""What a network's output means, and the conversions between the meanings.

At a known noisy picture z = alpha x0 + sigma eps, any one of these gives the others:

  eps  the noise; the paper's choice (arXiv:2205.11487, appendix A)
  x0   the clean picture
  v    = alpha eps - sigma x0 (progressive distillation, arXiv:2202.00512; Imagen Video)

  x0 = (z - sigma eps) / alpha = alpha z - sigma v
  eps = (z - alpha x0) / sigma = sigma z + alpha v

eps is ill-conditioned for x0 near t = 1 (at logsnr = -20 an error in eps is multiplied
by 2.2e4), x0 for eps near t = 0; v is well-conditioned at both ends.
"""

from jaxtyping import Array, Float

from imagen_jax.diffusion.process import PerPicture, alpha_sigma, expand
from imagen_jax.interfaces import Prediction

PREDICTIONS = ("eps", "v", "x0")


def _unknown(kind: str) -> ValueError:
    return ValueError(f"prediction {kind!r} is not one of {', '.join(PREDICTIONS)}")


def target(
    kind: str,
    x0: Float[Array, "b h w c"],
    eps: Float[Array, "b h w c"],
    logsnr: PerPicture,
) -> Float[Array, "b h w c"]:
    """Returns what a perfect network of this kind would output.

    Args:
      kind: one of `PREDICTIONS`.
      x0: clean pictures.
      eps: the noise added to them.
      logsnr: log-SNR of the noisy pictures.

    Raises:
      ValueError: on an unknown kind.
    """
    match kind:
        case "eps":
            return eps
        case "v":
            alpha, sigma = alpha_sigma(expand(logsnr, x0))
            return alpha * eps - sigma * x0
        case "x0":
            return x0
        case _:
            raise _unknown(kind)


def eps_from_x0(
    z: Float[Array, "b h w c"], x0: Float[Array, "b h w c"], logsnr: PerPicture
) -> Float[Array, "b h w c"]:
    """Returns the noise that makes z from x0: (z - alpha x0) / sigma.

    After x0 was edited by thresholding, eps must be this, not the network's own.
    """
    alpha, sigma = alpha_sigma(expand(logsnr, z))
    return (z - alpha * x0) / sigma


def to_prediction(
    kind: str,
    output: Float[Array, "b h w c"],
    z: Float[Array, "b h w c"],
    logsnr: PerPicture,
) -> Prediction:
    """Returns a network's output as both x0 and eps; z = alpha x0 + sigma eps.

    Args:
      kind: one of `PREDICTIONS`: what the output means.
      output: the network's output, float32.
      z: the noisy pictures it saw.
      logsnr: their log-SNR.

    Raises:
      ValueError: on an unknown kind.
    """
    alpha, sigma = alpha_sigma(expand(logsnr, z))
    match kind:
        case "eps":
            return Prediction(x0=(z - sigma * output) / alpha, eps=output)
        case "v":
            return Prediction(
                x0=alpha * z - sigma * output, eps=sigma * z + alpha * output
            )
        case "x0":
            return Prediction(x0=output, eps=eps_from_x0(z, output, logsnr))
        case _:
            raise _unknown(kind)
