"""How the noise level, the augmentation level and the text reach every block.

    embedding = MLP(sinusoid(logsnr)) + MLP(sinusoid(aug_logsnr)) + pool(text)

The network is told the log-SNR itself (paper, appendix A), rescaled from
[-20, 20] to [0, 1000] before the sinusoid as in VDM (arXiv:2107.00630), in float32.
The pooled text is added to it (paper, section 2.5). How the augmentation level enters
is not said in the paper; a second MLP is what CDM, DeepFloyd IF and NeMo use.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from imagen_jax.interfaces import Conditioning
from imagen_jax.models.attention import TextPooling
from imagen_jax.models.layers import dense, silu

LOGSNR_LIMIT = 20.0


class BlockConditioning(NamedTuple):
    """What each block of a network is given.

    `embedding` modulates every residual block; `text` and `text_mask` are attended to.
    """

    embedding: Float[Array, "b e"]
    text: Float[Array, "b n d"]
    text_mask: Bool[Array, "b n"]


def sinusoid(logsnr: Float[Array, " b"], width: int) -> Float[Array, "b width"]:
    """Returns sines and cosines of the clipped, rescaled log-SNR, float32."""
    clipped = jnp.clip(logsnr.astype(jnp.float32), -LOGSNR_LIMIT, LOGSNR_LIMIT)
    position = (clipped + LOGSNR_LIMIT) * (1000.0 / (2.0 * LOGSNR_LIMIT))
    half = width // 2
    frequency = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / half)
    angle = position[:, None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class NoiseEmbedding(nn.Module):
    """A log-SNR as a vector: sinusoid, dense, SiLU, dense.

    Attributes:
      width: width of the sinusoid.
      features: width of the result.
      dtype: compute type of the dense layers.
    """

    width: int
    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, logsnr: Float[Array, " b"]) -> Float[Array, "b e"]:
        """Returns the embedding of each log-SNR."""
        x = dense(self.features, "in", self.dtype)(sinusoid(logsnr, self.width))
        return dense(self.features, "out", self.dtype)(silu(x))


class Conditioner(nn.Module):
    """Makes the `BlockConditioning` of a network.

    Attributes:
      width: width of the network's first level.
      features: width of the embedding.
      text_proj_width: width the text is projected to; 0 leaves it.
      text_pooling: "attention", "mean" or "none".
      dtype: compute type.
    """

    width: int
    features: int
    text_proj_width: int
    text_pooling: str
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, logsnr: Float[Array, " b"], cond: Conditioning
    ) -> BlockConditioning:
        """Returns the embedding and the text as the blocks take them."""
        embedding = NoiseEmbedding(
            self.width, self.features, self.dtype, name="noise_embedding"
        )(logsnr)
        if cond.aug_logsnr is not None:
            embedding += NoiseEmbedding(
                self.width, self.features, self.dtype, name="aug_embedding"
            )(cond.aug_logsnr)
        # Stored embeddings are bfloat16; they are normalised in `dtype`.
        text = cond.text_embed.astype(self.dtype)
        if self.text_proj_width:
            text = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="text_proj_norm")(
                text
            )
            text = dense(self.text_proj_width, "text_proj", self.dtype)(text)
        if self.text_pooling != "none":
            embedding += TextPooling(
                self.features, self.text_pooling, dtype=self.dtype, name="text_pooling"
            )(text, cond.text_mask)
        return BlockConditioning(embedding, text, cond.text_mask)
