"""The forward process and its posterior, as functions of log-SNR.

With alpha^2 = sigmoid(logsnr) and sigma^2 = sigmoid(-logsnr), so alpha^2 + sigma^2 = 1
(variance preserving), and s < t the cleaner of two times (arXiv:2205.11487, App. A):

  q(z_t | x0)      = N(alpha_t x0, sigma_t^2 I)
  q(z_t | z_s)     = N((alpha_t / alpha_s) z_s, (1 - r) sigma_t^2 I)
  q(z_s | z_t, x0) = N(r (alpha_s / alpha_t) z_t + (1 - r) alpha_s x0,
                       (1 - r) sigma_s^2 I)

with r = exp(logsnr_t - logsnr_s) in [0, 1]. The ancestral sampler interpolates, in the
logarithm, between the posterior's variance and that of q(z_t | z_s); see `posterior`.

Pictures are `[b h w c]`; noise levels are one per picture, `[b]`, or one for all, 0-d.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PerPicture = Float[Array, ""] | Float[Array, " b"]
"""One number for all pictures, or one for each."""


def alpha_sigma(
    logsnr: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Returns (alpha, sigma), both in (0, 1), with alpha^2 + sigma^2 = 1."""
    return jnp.sqrt(jax.nn.sigmoid(logsnr)), jnp.sqrt(jax.nn.sigmoid(-logsnr))


def expand(x: Float[Array, "..."], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x with trailing axes of size 1, so that it broadcasts against `like`."""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))


def diffuse(
    x0: Float[Array, "b h w c"], eps: Float[Array, "b h w c"], logsnr: PerPicture
) -> Float[Array, "b h w c"]:
    """Returns z = alpha x0 + sigma eps, a sample of q(z_t | x0).

    Args:
      x0: clean pictures in [-1, 1].
      eps: standard normal noise.
      logsnr: log-SNR of the result.
    """
    alpha, sigma = alpha_sigma(expand(logsnr, x0))
    return alpha * x0 + sigma * eps


def posterior_share(
    logsnr_t: Float[Array, "*shape"], logsnr_s: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Returns 1 - r = 1 - exp(logsnr_t - logsnr_s), in [0, 1], without cancellation.

    It is the weight of x0 in the posterior's mean, and the share of each variance that
    a step renews: 0 when the two levels are equal.
    """
    return -jnp.expm1(logsnr_t - logsnr_s)


def raise_noise(
    z: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    logsnr_s: Float[Array, ""],
    logsnr_t: Float[Array, ""],
) -> Float[Array, "b h w c"]:
    """Returns a sample of q(z_t | z_s): z with noise added.

    Args:
      z: noisy pictures at s.
      noise: standard normal.
      logsnr_s: log-SNR of z.
      logsnr_t: log-SNR of the result, at most `logsnr_s`; equal returns z.
    """
    alpha_s, _ = alpha_sigma(logsnr_s)
    alpha_t, sigma_t = alpha_sigma(logsnr_t)
    share = posterior_share(logsnr_t, logsnr_s)
    return alpha_t / alpha_s * z + sigma_t * jnp.sqrt(share) * noise


def posterior(
    z: Float[Array, "b h w c"],
    x0: Float[Array, "b h w c"],
    logsnr_t: PerPicture,
    logsnr_s: PerPicture,
    gamma: float | Float[Array, ""],
) -> tuple[Float[Array, "b h w c"], Float[Array, "..."]]:
    """Returns the mean and standard deviation of the ancestral step from t to s.

    Args:
      z: noisy pictures at t.
      x0: clean pictures, known or predicted.
      logsnr_t: log-SNR of z.
      logsnr_s: log-SNR of the result, at least `logsnr_t`.
      gamma: in [0, 1]; 0 is the exact posterior's variance (DDPM "fixed small"), 1 that
        of q(z_t | z_s) ("fixed large"); between, their geometric interpolation.

    Returns:
      The mean, and the standard deviation broadcastable to it.

    Source: arXiv:2205.11487, appendix A.
    """
    logsnr_t, logsnr_s = expand(logsnr_t, z), expand(logsnr_s, z)
    alpha_t, sigma_t = alpha_sigma(logsnr_t)
    alpha_s, sigma_s = alpha_sigma(logsnr_s)
    share = posterior_share(logsnr_t, logsnr_s)
    ratio = jnp.exp(logsnr_t - logsnr_s)
    mean = ratio * (alpha_s / alpha_t) * z + share * alpha_s * x0
    std = jnp.sqrt(share) * sigma_s ** (1.0 - gamma) * sigma_t**gamma
    return mean, std
