"""The compiled sampling function of one stage.

    noise -> for each step: (cond, uncond) in one batch -> guidance -> x0
          -> thresholding -> sampler step -> ... -> picture

Compiled once per resolution, batch size, number of steps and sampler kind. All else is
traced and so may change between calls: prompt, guidance weights (one per step, hence
constant and oscillating guidance alike), their interval and rescaling, the noise levels
of the steps, percentile, aug_level, seeds. Only "no guidance at all" and "a second
prompt" are programs of their own, since they need less or more work.

An `Edit` changes where sampling starts from, which pixels it may draw and whose noise
it takes. Each of its parts that is given is a program of its own too; their values are
traced. Without one, the program is that of plain sampling.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from imagen_jax.diffusion.guidance import (
    guidance_weights,
    guided_output,
    null_text,
    weight_in_interval,
)
from imagen_jax.diffusion.parameterization import eps_from_x0, to_prediction
from imagen_jax.diffusion.process import diffuse
from imagen_jax.diffusion.samplers import sample_fn
from imagen_jax.diffusion.stepping import PredictFn
from imagen_jax.diffusion.thresholding import threshold
from imagen_jax.interfaces import Conditioning, Prediction, TextEmbeddings
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.edits import Edit, detour, draw_fn
from imagen_jax.sampling.grid import make_grid
from imagen_jax.sampling.noise import AUGMENTATION_NOISE, FIRST_STEP, INITIAL_NOISE
from imagen_jax.stage import Params, Stage


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
    edit: Edit | None = None,
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
      edit: None for plain sampling.
    """
    size, logsnrs = stage.config.resolution, jnp.asarray(settings.logsnrs)
    edit = edit or Edit()
    noise = draw_fn(stage, settings.seeds, edit)
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
    predict = make_predict(stage, sampler.threshold, params, texts, settings)
    z = noise(INITIAL_NOISE, (size, size, 3))
    if edit.start is not None:
        z = diffuse(edit.start, z, logsnrs[0])
    pictures = sample_fn(sampler.kind)(
        predict,
        z,
        logsnrs,
        lambda step: noise(FIRST_STEP + step, (size, size, 3)),
        settings.stochasticity,
        detour(edit.repaint, logsnrs, noise),
    )
    return jnp.clip(pictures, -1.0, 1.0)


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
        self.logsnrs = make_grid(stage, self.config)
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
        edit: Edit | None = None,
    ) -> Float[Array, "b h w 3"]:
        """Returns pictures in [-1, 1], one per prompt.

        Args:
          params: normally the averaged ones.
          text: the prompts.
          settings: from `sampling_params`, or your own.
          low_res: the previous stage's pictures in [-1, 1].
          uncond_text: a negative prompt; None = the null text.
          second_text: prompts to blend with the first, as `settings.blend` says.
          edit: a picture to start from, pixels to keep, noise to mix; None = plain.

        Raises:
          ValueError: settings of another number of steps than the sampler's.
        """
        if settings.logsnrs is None:
            settings = settings._replace(logsnrs=self.logsnrs)
        self._check_steps(settings)
        if uncond_text is None:
            uncond_text = _null_like(text)
        guided = bool(np.any(np.asarray(settings.guidance_weight) != 1.0))
        given = (params, text, uncond_text, second_text, low_res, settings, edit)
        return self._sample(*given, guided=guided)

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


@jax.jit
def _null_like(text: TextEmbeddings) -> TextEmbeddings:
    b, n, d = text.embed.shape
    return null_text(b, n, d, text.embed.dtype)
