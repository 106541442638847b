"""The compiled sampling function of one stage.

    noise -> for each step: (cond, uncond) in one batch -> guidance -> x0
          -> thresholding -> sampler step -> ... -> picture

Compiled once per resolution, batch size, number of steps and sampler kind. All else is
traced and so may change between calls: prompt, guidance weights (one per step, hence
constant and oscillating guidance alike), their interval and rescaling, the noise levels
of the steps, percentile, aug_level, seeds. Only "no guidance at all" and "a second
prompt" are programs of their own, since they need less or more work.

Picture i's noise depends on its own seed alone, never on the batch it is in:
key = fold_in(fold_in(key(seed), resolution), purpose).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from imagen_jax.diffusion.guidance import (
    guidance_weights,
    guided_output,
    null_text,
    weight_in_interval,
)
from imagen_jax.diffusion.parameterization import eps_from_x0, to_prediction
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.diffusion.spacing import logsnr_grid
from imagen_jax.diffusion.stepping import PredictFn
from imagen_jax.diffusion.thresholding import threshold
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Conditioning, Prediction, TextEmbeddings
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.stage import Params, Stage

# What a picture's key is folded with; step i's noise takes FIRST_STEP + i.
INITIAL_NOISE, AUGMENTATION_NOISE, FIRST_STEP = 0, 1, 2


class SamplingParams(NamedTuple):
    """All that may change between two calls without compiling again.

    Attributes:
      guidance_weight: w at each step; 1 = none.
      guidance_interval: lowest and highest log-SNR with guidance.
      guidance_rescale: phi of rescaled guidance, 0 = off.
      blend: share of the second prompt at each step; ignored without one.
      aug_level: noise on the low-res picture, in [0, 1]; ignored by a base stage.
      percentile: of dynamic thresholding, in percent.
      threshold_cap: upper limit of its s; inf = none.
      stochasticity: gamma, eta or churn; see the samplers.
      seeds: one per picture.
      logsnrs: noise levels of the steps, rising, num_steps + 1 of them; None = those of
        the sampler's config.
    """

    guidance_weight: Float[Array, " s"]
    guidance_interval: Float[Array, " 2"]
    guidance_rescale: Float[Array, ""]
    blend: Float[Array, " s"]
    aug_level: Float[Array, ""]
    percentile: Float[Array, ""]
    threshold_cap: Float[Array, ""]
    stochasticity: Float[Array, ""]
    seeds: UInt32[Array, " b"]
    logsnrs: Float[Array | np.ndarray, " n"] | None = None


def sampling_params(
    config: SamplerConfig, seeds: np.ndarray, blend: float = 0.5
) -> SamplingParams:
    """Returns the config's values as arrays.

    Args:
      config: defaults of the stage, or what the user chose instead.
      seeds: one non-negative integer per picture.
      blend: share of the second prompt, in [0, 1].
    """
    steps = config.num_steps
    weights = guidance_weights(
        config.guidance,
        steps,
        config.guidance_weight,
        config.guidance_low,
        config.guidance_hold,
    )
    return SamplingParams(
        guidance_weight=jnp.asarray(weights),
        guidance_interval=jnp.array(
            config.guidance_interval or (-np.inf, np.inf), jnp.float32
        ),
        guidance_rescale=jnp.float32(config.guidance_rescale),
        blend=jnp.full((steps,), blend, jnp.float32),
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
    second_text: TextEmbeddings | None,
    low_res: Float[Array, "b hl wl 3"] | None,
    settings: SamplingParams,
) -> Float[Array, "b h w 3"]:
    """Returns pictures in [-1, 1]. Jitted by `Sampler`.

    Args:
      stage: the stage; static.
      sampler: kind and thresholding are static and read from here.
      guided: whether any guidance weight differs from 1; static.
      params: normally the averaged ones.
      text: the prompts.
      uncond_text: the null text, or a negative prompt.
      second_text: prompts to blend with the first; None for none.
      low_res: the previous stage's pictures in [-1, 1]; None for a base stage.
      settings: everything that is traced; its `logsnrs` must be given.
    """
    size = stage.config.resolution
    noise = noise_of(settings.seeds, size)
    aug_level = aug_noise = None
    if low_res is not None:
        aug_level = jnp.full(low_res.shape[:1], settings.aug_level)
        aug_noise = noise(AUGMENTATION_NOISE, low_res.shape[1:])
    cond = stage.condition(text, low_res, aug_level, aug_noise)

    def with_text(other: TextEmbeddings | None) -> Conditioning | None:
        """Returns the conditioning with another text and the same low-res picture."""
        if other is None:
            return None
        return cond._replace(text_embed=other.embed, text_mask=other.mask)

    uncond = with_text(uncond_text if guided else None)
    texts = (cond, uncond, with_text(second_text))
    pictures = sample_fn(sampler.kind)(
        make_predict(stage, sampler.threshold, params, texts, settings),
        noise(INITIAL_NOISE, (size, size, 3)),
        jnp.asarray(settings.logsnrs),
        lambda step: noise(FIRST_STEP + step, (size, size, 3)),
        settings.stochasticity,
    )
    return jnp.clip(pictures, -1.0, 1.0)


def noise_of(
    seeds: UInt32[Array, " b"], size: int
) -> Callable[[int | Int[Array, ""], tuple[int, ...]], Float[Array, "b h w c"]]:
    """Returns (purpose, shape) -> standard normal noise, each picture's by its seed.

    Args:
      seeds: one per picture.
      size: of the stage's pictures; the stages of a cascade draw different noise.
    """
    keys = jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), size))(seeds)

    def noise(purpose, shape):
        def one(key):
            return jax.random.normal(jax.random.fold_in(key, purpose), shape)

        return jax.vmap(one)(keys)

    return noise


def make_predict(
    stage: Stage,
    threshold_kind: str,
    params: Params,
    texts: tuple[Conditioning, Conditioning | None, Conditioning | None],
    settings: SamplingParams,
) -> PredictFn:
    """Returns (z, logsnr, step) -> the guided and thresholded prediction.

    Args:
      stage: the stage.
      threshold_kind: see `diffusion.thresholding.threshold`.
      params: of the network.
      texts: conditioning with the prompts, with the null text or negative prompts (None
        = no guidance), and with second prompts (None = none).
      settings: guidance and thresholding are read from here.
    """
    denoiser = stage.denoiser(params)
    cond, uncond, second = texts

    def predict(z, logsnr, step):
        weight = weight_in_interval(
            settings.guidance_weight[step], logsnr, settings.guidance_interval
        )
        logsnr = jnp.full(z.shape[:1], logsnr)
        output = guided_output(
            denoiser,
            z,
            logsnr,
            cond,
            uncond,
            weight,
            second=second,
            blend=settings.blend[step],
            rescale_share=settings.guidance_rescale,
        )
        x0 = to_prediction(stage.config.diffusion.prediction, output, z, logsnr).x0
        x0 = threshold(threshold_kind, x0, settings.percentile, settings.threshold_cap)
        return Prediction(x0, eps_from_x0(z, x0, logsnr))

    return predict


class Sampler:
    """The sampling function of one stage with one sampler, compiled on first use.

    Attributes:
      stage: the stage.
      config: kind, steps, thresholding and default values.
      logsnrs: the grid of noise levels that the config names.
      num_traces: how often it was traced; it stays 1 while only values change.
    """

    def __init__(self, stage: Stage, sampler: SamplerConfig | None = None):
        """Prepares the function; nothing is compiled yet.

        Args:
          stage: the stage.
          sampler: kind, steps, thresholding and default values; None = the stage's.

        Raises:
          UserError: two steps would have the same noise level.
        """
        self.stage = stage
        self.config = sampler or stage.config.sampler
        self.logsnrs = _make_grid(stage, self.config)
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
        second_text: TextEmbeddings | None = None,
    ) -> Float[Array, "b h w 3"]:
        """Returns pictures in [-1, 1], one per prompt.

        Args:
          params: normally the averaged ones.
          text: the prompts.
          settings: from `sampling_params`, or your own.
          low_res: the previous stage's pictures in [-1, 1].
          uncond_text: a negative prompt; None = the null text.
          second_text: prompts to blend with the first, as `settings.blend` says.

        Raises:
          ValueError: settings of another number of steps than the sampler's.
        """
        if settings.logsnrs is None:
            settings = settings._replace(logsnrs=self.logsnrs)
        self._check_steps(settings)
        if uncond_text is None:
            uncond_text = _null_like(text)
        guided = bool(np.any(np.asarray(settings.guidance_weight) != 1.0))
        return self._sample(
            params, text, uncond_text, second_text, low_res, settings, guided=guided
        )

    def _check_steps(self, settings: SamplingParams) -> None:
        steps = self.config.num_steps
        assert settings.logsnrs is not None
        lengths = (
            len(settings.guidance_weight),
            len(settings.blend),
            len(settings.logsnrs) - 1,
        )
        if set(lengths) != {steps}:
            raise ValueError(
                f"the settings are for {lengths} steps (weights, blend, noise levels), "
                f"the sampler has {steps}; make them from the sampler's own config"
            )


def _make_grid(stage: Stage, config: SamplerConfig) -> Float[np.ndarray, " n"]:
    """Returns the noise levels of the config's steps, strictly rising.

    Raises:
      UserError: they are not, because steps are too many or limits too narrow.
    """
    grid = np.asarray(
        logsnr_grid(
            stage.schedule,
            config.num_steps,
            config.spacing,
            limits=config.spacing_limits,
            rho=config.karras_rho,
            times=config.times,
        )
    )
    rises = np.diff(grid) > 0
    if not rises.all():
        place = int(np.argmin(rises))
        raise UserError(
            f"sampler.num_steps is {config.num_steps} with spacing "
            f"{config.spacing!r}: step {place} goes from log-SNR {grid[place]:.2f} to "
            f"{grid[place + 1]:.2f}, and the schedule of stage {stage.config.name} "
            "tells no more steps apart; take fewer steps, or wider "
            "sampler.spacing_limits or diffusion.schedule.logsnr_min and .logsnr_max"
        )
    return grid


@jax.jit
def _null_like(text: TextEmbeddings) -> TextEmbeddings:
    b, n, d = text.embed.shape
    return null_text(b, n, d, text.embed.dtype)
