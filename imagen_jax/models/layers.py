"""Small layers that both networks are made of.

Parameters are float32 and are cast to the compute type `dtype` where they are used.
Statistics of norms are float32 whatever `dtype` is.
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from imagen_jax.models.convolution import convolve
from imagen_jax.models.products import product

kernel_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Conv(nn.Module):
    """A square convolution with bias, NHWC, padding "SAME".

    Attributes:
      features: output channels.
      kernel_size: side of the kernel.
      stride: step in both directions.
      zero_init: start from zero, for the last layer of a residual branch.
      dtype: compute type.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    zero_init: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Returns the convolved map; h2 = h / stride."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        init = nn.initializers.zeros_init() if self.zero_init else kernel_init
        kernel = self.param("kernel", init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        kernel = gathered(kernel.astype(self.dtype))
        y = convolve(x.astype(self.dtype), kernel, self.stride)
        return y + bias.astype(self.dtype)


def dense(features: int, name: str, dtype: DTypeLike, zero_init: bool = False):
    """Returns an affine layer over the last axis."""
    init = nn.initializers.zeros_init() if zero_init else kernel_init

    def matrix_product(x: Array, kernel: Array, *_, **__) -> Array:
        return product(x, kernel)

    def promote(*arrays: Array | None, dtype=None, inexact=True) -> list[Array | None]:
        x, kernel, bias = promote_dtype(*arrays, dtype=dtype, inexact=inexact)
        return [x, gathered(cast(Array, kernel)), bias]

    return nn.Dense(
        features,
        dtype=dtype,
        kernel_init=init,
        promote_dtype=promote,
        dot_general=matrix_product,
        name=name,
    )


def gathered(kernel: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the kernel, told to the compiler to be whole on each device at its use.

    Under a mesh whose axis `fsdp` splits parameters, a kernel's parts are gathered for
    the layer, and its gradient is summed over the devices before it is split again
    (ZeRO-3, arXiv:1910.02054). Left to choose, XLA splits the gradient of the kernel
    first, and for that gathers activations of the whole batch: 16 GiB for one layer of
    the 2 B base at batch 2048. Where `tensor` splits kernels too it is left to choose.
    """
    axes = jax.sharding.get_abstract_mesh().shape
    if axes.get("fsdp", 1) == 1 or axes.get("tensor", 1) > 1:
        return kernel
    return jax.lax.with_sharding_constraint(kernel, PartitionSpec())


class GroupNorm(nn.Module):
    """GroupNorm, and the scale and shift that may follow it (FiLM), in one product.

    All of it is one factor and one summand for each channel of each picture: so a map
    is read once, and a CPU's loop over channels reads both in order. As flax's
    GroupNorm it takes the variance as E[x^2] - E[x]^2; the parameters are the same.

    Attributes:
      groups: at most; where it does not divide the width, fewer.
      dtype: of the output.
    """

    groups: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], film: Float[Array, "b 2*c"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Returns norm(x), or norm(x) * (1 + film[:, :c]) + film[:, c:]."""
        width = x.shape[-1]
        groups = next(g for g in range(self.groups, 0, -1) if width % g == 0)
        x = x.astype(jnp.float32)

        def group_mean(y: Array) -> Array:
            mean = y.mean(axis=(1, 2)).reshape(len(x), groups, -1).mean(axis=-1)
            return jnp.repeat(mean, width // groups, axis=-1)

        mean = group_mean(x)
        variance = jnp.maximum(group_mean(jnp.square(x)) - jnp.square(mean), 0)
        deviation = jnp.sqrt(variance + 1e-5)
        scale = self.param("scale", nn.initializers.ones_init(), (width,))
        shift = self.param("bias", nn.initializers.zeros_init(), (width,))
        if film is not None:
            film_scale, film_shift = jnp.split(film.astype(jnp.float32), 2, axis=-1)
            scale = scale * (1 + film_scale)
            shift = shift * (1 + film_scale) + film_shift
        # Both end in a division, or XLA on CPUs computes them again at each pixel: it
        # shares what it deems expensive, and folds everything else into the loop.
        factor = scale / deviation
        summand = (shift * deviation - mean * scale) / deviation
        y = x * factor[:, None, None] + summand[:, None, None]
        return y.astype(self.dtype)


def space_to_depth(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c2"]:
    """Returns size x size pixels folded into channels (pixel unshuffle)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(
        b, h // size, w // size, size * size * c
    )


def depth_to_space(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c2"]:
    """Returns channels unfolded into size x size pixels; inverts `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, size, size, c // size**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * size, w * size, c // size**2)


def average_pool(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 c"]:
    """Returns the mean of each factor x factor square."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.mean(axis=(2, 4))


def nearest_upsample(
    x: Float[Array, "b h w c"], factor: int
) -> Float[Array, "b h2 w2 c"]:
    """Returns each pixel repeated factor x factor times."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(
        x[:, :, None, :, None, :], (b, h, factor, w, factor, c)
    )  # one copy, where two `repeat`s would make two
    return x.reshape(b, h * factor, w * factor, c)


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns x sigmoid(x), called swish in the paper's figures."""
    return jax.nn.silu(x)
