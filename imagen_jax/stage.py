"""A stage of the cascade: its settings, its network and its noise schedules.

Built once from a `StageConfig`; training and sampling both go through it, so what the
network is given (`condition`) and how it is called (`denoiser`) have one definition.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagen_jax.config import StageConfig
from imagen_jax.diffusion.augmentation import augment, upsample
from imagen_jax.diffusion.schedule import NoiseSchedule, make_schedule
from imagen_jax.interfaces import Conditioning, Denoiser, TextEmbeddings
from imagen_jax.models.network import Network, build_network

Params = Any  # a nested dict of float32 arrays, as the network's names lay it out


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage, ready to train or sample.

    Attributes:
      config: its settings.
      network: the Linen module; it holds no parameters.
      schedule: noise of the picture being denoised.
      aug_schedule: noise of the low-res picture by aug_level.
      unroll: whether loops over layers and microbatches are unrolled (on CPUs).
    """

    config: StageConfig
    network: Network
    schedule: NoiseSchedule
    aug_schedule: NoiseSchedule
    unroll: bool

    def denoiser(self, params: Params) -> Denoiser:
        """Returns the network with its parameters bound."""
        # `apply` could also return mutable state; the networks have none.
        apply = functools.partial(self.network.apply, {"params": params})
        return cast(Denoiser, apply)

    def condition(
        self,
        text: TextEmbeddings,
        low_res: Float[Array, "b hl wl 3"] | None,
        aug_level: Float[Array, " b"] | None,
        aug_noise: Float[Array, "b hl wl 3"] | None,
    ) -> Conditioning:
        """Returns what the network may see.

        The low-res picture is noised at its own size, once, and then upsampled, in
        training and sampling alike (paper, section 2.4).

        Args:
          text: embeddings and mask; the null text where conditioning was dropped.
          low_res: pictures in [-1, 1] as the previous stage makes them; None for a base
            stage, and then so are the others.
          aug_level: in [0, 1], 0 = clean.
          aug_noise: standard normal.
        """
        if low_res is None or aug_level is None or aug_noise is None:
            return Conditioning(text.embed, text.mask)
        noised, aug_logsnr = augment(low_res, aug_level, aug_noise, self.aug_schedule)
        size = low_res.shape[1] * self.config.resolution // self.low_res_resolution
        method = self.config.diffusion.low_res_upsample
        return Conditioning(
            text.embed, text.mask, upsample(noised, size, method), aug_logsnr
        )

    @property
    def low_res_resolution(self) -> int:
        """Side of the pictures it is conditioned on; 0 for a base stage."""
        return self.config.low_res_resolution

    def init_params(self, key: jax.Array) -> Params:
        """Returns fresh parameters; run it under `jax.eval_shape` for their shapes."""
        config, size = self.config, self.config.network.downsampling
        z = jnp.zeros((1, size, size, 3))
        text = TextEmbeddings(
            jnp.zeros((1, 1, config.text.width)), jnp.ones((1, 1), bool)
        )
        cond = Conditioning(text.embed, text.mask)
        if config.is_super_resolution:
            cond = cond._replace(low_res=z, aug_logsnr=jnp.zeros((1,)))
        return self.network.init(key, z, jnp.zeros((1,)), cond)["params"]


def build_stage(
    config: StageConfig,
    *,
    platform: str | None = None,
    constrain: Callable[[jax.Array], jax.Array] = lambda x: x,
) -> Stage:
    """Returns the stage of a config.

    Args:
      config: its settings.
      platform: where its programs will run ("cpu", "gpu", "tpu"); None means here.
      constrain: applied to activations at level boundaries; see
        `parallel.sharding.constrain_batch`.
    """
    unroll = (platform or jax.default_backend()) == "cpu"
    settings = config.diffusion

    def schedule(c) -> NoiseSchedule:
        return make_schedule(c.kind, c.logsnr_min, c.logsnr_max, c.shift, c.std)

    return Stage(
        config,
        build_network(config.network, unroll=unroll, constrain=constrain),
        schedule(settings.schedule),
        schedule(settings.aug_schedule),
        unroll,
    )
