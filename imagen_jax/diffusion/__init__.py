"""The mathematics of Gaussian diffusion: pure float32 functions.

The room imports jax, numpy, jaxtyping and `imagen_jax.interfaces`, nothing else, and
sees a network only as a `Denoiser`. Each formula exists once:

  schedule          t <-> log-SNR, the one noise variable
  process           alpha and sigma, z = alpha x0 + sigma eps, the posterior
  parameterization  what a network's output means: eps, v or x0
  loss              training times, weights, the denoising loss
  guidance          the null text and classifier-free guidance
  thresholding      static, dynamic and capped thresholding of x0
  percentile        the exact percentile that it needs, without sorting
  augmentation      bytes <-> floats, resizing, noise on the low-resolution picture
  spacing           the log-SNRs at which a sampler evaluates the network
  stepping          one step of DDPM and DDIM, and the loop over a grid
  multistep, heun   solvers of higher order
  editing           inpainting on a sampler's grid, mixtures of noise
  samplers          the five samplers, by name
"""
