"""The containers that travel between the rooms of the package, and the one seam.

Every container is a NamedTuple, so it is a pytree that `jax.jit`, `jax.grad` and
`jax.tree.map` understand without registration. Shapes are written with the letters
b batch, h height, w width, n text tokens, d text width.

The seam is `Denoiser`: everything in `imagen_jax.diffusion` sees a network only as a
function `(z, logsnr, cond) -> output`, normally `functools.partial(network.apply,
{"params": params})`.

Conventions: t in [0, 1] with 0 = clean; logsnr = log(alpha^2 / sigma^2); pictures are
uint8 on disk and on the wire, float32 in [-1, 1] inside the diffusion.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool, Float, Int, UInt8


class TextEmbeddings(NamedTuple):
    """A caption as the frozen encoder's last hidden states.

    `mask` is True on valid tokens; rows of `embed` where it is False are ignored.
    """

    embed: Float[Array, "b n d"]
    mask: Bool[Array, "b n"]


class TextTokens(NamedTuple):
    """A caption as token ids, for an encoder that runs inside the training job."""

    ids: Int[Array, "b n"]
    mask: Bool[Array, "b n"]


class Batch(NamedTuple):
    """What the data pipeline hands to the train step: bytes, not floats.

    `low_res` is set by crop training only, where the low-resolution picture must be
    made before the crop; otherwise the train step makes it from `image`.
    """

    image: UInt8[Array, "b h w 3"]
    text: TextEmbeddings | TextTokens
    low_res: UInt8[Array, "b hl wl 3"] | None = None


class Conditioning(NamedTuple):
    """All that a network may see beside the noisy picture and its noise level.

    `low_res` is already at the network's resolution and already noised to
    `aug_logsnr`; both are None for the base stage.
    """

    text_embed: Float[Array, "b n d"]
    text_mask: Bool[Array, "b n"]
    low_res: Float[Array, "b h w 3"] | None = None
    aug_logsnr: Float[Array, " b"] | None = None


class Prediction(NamedTuple):
    """The network's output as a clean picture and as noise, float32.

    `x0` is what thresholding edits; `eps` is recomputed from it afterwards.
    """

    x0: Float[Array, "b h w 3"]
    eps: Float[Array, "b h w 3"]


@runtime_checkable  # the tests check annotations at run time
class Denoiser(Protocol):
    """A network with its parameters bound."""

    def __call__(
        self, z: Float[Array, "b h w 3"], logsnr: Float[Array, " b"], cond: Conditioning
    ) -> Float[Array, "b h w c"]:
        """Returns the network's raw output: eps, v or x0, as its stage's config says.

        Args:
          z: noisy pictures, float32.
          logsnr: log-SNR of each picture, float32.
          cond: the conditioning.
        """
        ...


PRNGKeys = jax.Array  # typed keys from jax.random.key, any leading shape
