"""The mathematics of Gaussian diffusion: pure float32 functions.

The room imports jax, numpy, jaxtyping and `imagen_jax.interfaces`, nothing else, and
sees a network only as a `Denoiser`. Each formula exists once:

  schedule          t <-> log-SNR, the one noise variable
  process           alpha and sigma, z = alpha x0 + sigma eps, the posterior
  parameterization  what a network's output means: eps, v or x0
  loss              training times, weights, the denoising loss
  guidance          the null text and classifier-free guidance
  thresholding      static and dynamic thresholding of x0
  augmentation      bytes <-> floats, resizing, noise on the low-resolution picture
  samplers          one step of DDPM and DDIM, and the loop over a log-SNR grid
"""
