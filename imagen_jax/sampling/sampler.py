"""The compiled sampling function of one stage.

    noise -> for each step: (cond, uncond) in one batch -> guidance -> x0
          -> thresholding -> sampler step -> ... -> picture

Compiled once per resolution, batch size, number of steps and sampler kind. All else is
traced and so may change between calls: prompt, guidance weights (one per step, hence
constant, interval and oscillating guidance alike), percentile, aug_level, seeds. Only
"no guidance at all" is a program of its own, since it needs half the work.

Picture i's noise depends on its own seed alone, never on the batch it is in:
key = fold_in(fold_in(key(seed), resolution), purpose).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from imagen_jax.config import SamplerConfig
from imagen_jax.diffusion.guidance import guided_output, null_text
from imagen_jax.diffusion.parameterization import eps_from_x0, to_prediction
from imagen_jax.diffusion.samplers import logsnr_grid, sample, sampler_step
from imagen_jax.diffusion.thresholding import threshold
from imagen_jax.interfaces import Prediction, TextEmbeddings
from imagen_jax.stage import Params, Stage

# What a picture's key is folded with; step i's noise takes FIRST_STEP + i.
INITIAL_NOISE, AUGMENTATION_NOISE, FIRST_STEP = 0, 1, 2


class SamplingParams(NamedTuple):
    """All that may change between two calls without compiling again.

    Attributes:
      guidance_weight: w at each step; 1 = none.
      aug_level: noise on the low-res picture, in [0, 1]; ignored by a base stage.
      percentile: of dynamic thresholding, in percent.
      threshold_cap: upper limit of its s; inf = none.
      stochasticity: gamma of DDPM or eta of DDIM.
      seeds: one per picture.
    """

    guidance_weight: Float[Array, " s"]
    aug_level: Float[Array, ""]
    percentile: Float[Array, ""]
    threshold_cap: Float[Array, ""]
    stochasticity: Float[Array, ""]
    seeds: UInt32[Array, " b"]


def sampling_params(config: SamplerConfig, seeds: np.ndarray) -> SamplingParams:
    """Returns the config's values as arrays.

    Args:
      config: defaults of the stage, or what the user chose instead.
      seeds: one non-negative integer per picture.
    """
    return SamplingParams(
        guidance_weight=jnp.full(
            (config.num_steps,), config.guidance_weight, jnp.float32
        ),
        aug_level=jnp.float32(config.aug_level),
        percentile=jnp.float32(config.percentile),
        threshold_cap=jnp.float32(config.threshold_cap or np.inf),
        stochasticity=jnp.float32(config.stochasticity),
        seeds=jnp.asarray(seeds, jnp.uint32),
    )


def sample_stage(
    stage: Stage,
    sampler: SamplerConfig,
    guided: bool,
    params: Params,
    text: TextEmbeddings,
    uncond_text: TextEmbeddings,
    low_res: Float[Array, "b hl wl 3"] | None,
    settings: SamplingParams,
) -> Float[Array, "b h w 3"]:
    """Returns pictures in [-1, 1]. Jitted by `Sampler`.

    Args:
      stage: the stage; static.
      sampler: kind, number of steps and thresholding are static and read from here.
      guided: whether any guidance weight differs from 1; static.
      params: normally the averaged ones.
      text: the prompts.
      uncond_text: the null text, or a negative prompt.
      low_res: the previous stage's pictures in [-1, 1]; None for a base stage.
      settings: everything that is traced.
    """
    size = stage.config.resolution
    keys = jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), size))(
        settings.seeds
    )

    def noise(purpose, shape):
        def one(key):
            return jax.random.normal(jax.random.fold_in(key, purpose), shape)

        return jax.vmap(one)(keys)

    aug_level = aug_noise = None
    if low_res is not None:
        aug_level = jnp.full(low_res.shape[:1], settings.aug_level)
        aug_noise = noise(AUGMENTATION_NOISE, low_res.shape[1:])
    cond = stage.condition(text, low_res, aug_level, aug_noise)
    uncond = cond._replace(text_embed=uncond_text.embed, text_mask=uncond_text.mask)
    denoiser = stage.denoiser(params)

    def predict(z, logsnr, step):
        logsnr = jnp.full(z.shape[:1], logsnr)
        if guided:
            weight = settings.guidance_weight[step]
            output = guided_output(denoiser, z, logsnr, cond, uncond, weight)
        else:
            output = denoiser(z, logsnr, cond)
        kind = stage.config.diffusion.prediction
        x0 = to_prediction(kind, output, z, logsnr).x0
        x0 = threshold(
            sampler.threshold, x0, settings.percentile, settings.threshold_cap
        )
        return Prediction(x0, eps_from_x0(z, x0, logsnr))

    pictures = sample(
        predict,
        noise(INITIAL_NOISE, (size, size, 3)),
        logsnr_grid(stage.schedule, sampler.num_steps),
        sampler_step(sampler.kind),
        lambda step: noise(FIRST_STEP + step, (size, size, 3)),
        settings.stochasticity,
    )
    return jnp.clip(pictures, -1.0, 1.0)


class Sampler:
    """The sampling function of one stage with one sampler, compiled on first use.

    Attributes:
      num_traces: how often it was traced; it stays 1 while only values change.
    """

    def __init__(self, stage: Stage, sampler: SamplerConfig | None = None):
        """Prepares the function; nothing is compiled yet.

        Args:
          stage: the stage.
          sampler: kind, steps, thresholding and default values; None = the stage's.
        """
        self.stage = stage
        self.config = sampler or stage.config.sampler
        self.num_traces = 0
        self._sample = jax.jit(self._counted, static_argnames=("guided",))

    def _counted(self, *args, guided: bool):
        self.num_traces += 1  # runs when traced, not when called
        return sample_stage(self.stage, self.config, guided, *args)

    def __call__(
        self,
        params: Params,
        text: TextEmbeddings,
        settings: SamplingParams,
        low_res: Float[Array, "b hl wl 3"] | None = None,
        uncond_text: TextEmbeddings | None = None,
    ) -> Float[Array, "b h w 3"]:
        """Returns pictures in [-1, 1], one per prompt.

        Args:
          params: normally the averaged ones.
          text: the prompts.
          settings: from `sampling_params`, or your own.
          low_res: the previous stage's pictures in [-1, 1].
          uncond_text: a negative prompt; None = the null text.
        """
        if uncond_text is None:
            uncond_text = _null_like(text)
        guided = bool(np.any(np.asarray(settings.guidance_weight) != 1.0))
        return self._sample(params, text, uncond_text, low_res, settings, guided=guided)


@jax.jit
def _null_like(text: TextEmbeddings) -> TextEmbeddings:
    b, n, d = text.embed.shape
    return null_text(b, n, d, text.embed.dtype)
