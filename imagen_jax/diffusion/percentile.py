"""An exact percentile without sorting: bisection over bit patterns by counting.

Dynamic thresholding wants one percentile of some three million numbers a picture and
step, and a full sort for it is slow on every device. But a rank is found by counting:
the k-th smallest of n numbers (k from 0) is the largest v with

  #{x < v} <= k

and the bits of a float32 of at least 0, read as an integer, rise with its value. So v
is built bit by bit from the top: a bit stays set where the count below allows it. That
is 31 passes that compare and add, whatever the numbers are, with no copy of them.

A percentile between two ranks is interpolated linearly, with the arithmetic of
`jnp.percentile(..., method="linear")`, so that the results are equal to it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BITS = 31  # of a float32 without its sign
INFINITY = 0x7F800000  # its bit pattern; those above are NaN


def percentile(
    magnitude: Float[Array, "b h w c"], percent: Float[Array, ""]
) -> Float[Array, "b 1 1 1"]:
    """Returns each picture's percentile over all its pixels and channels.

    Args:
      magnitude: float32, at least 0; a NaN makes its picture's result NaN.
      percent: in [0, 100]; traced.
    """
    bits = jax.lax.bitcast_convert_type(magnitude, jnp.int32)
    last = magnitude[0].size - 1
    position = percent / 100.0 * jnp.float32(last)
    low, high = (
        jnp.clip(rank.astype(jnp.int32), 0, last)
        for rank in (jnp.floor(position), jnp.ceil(position))
    )
    low_bits = _bits_at_rank(bits, low)

    # The next rank holds the same number again or the least one above it.
    num_up_to = jnp.sum(bits <= low_bits, axis=(1, 2, 3), keepdims=True)
    above = jnp.where(bits > low_bits, bits, jnp.iinfo(jnp.int32).max)
    above = jnp.min(above, axis=(1, 2, 3), keepdims=True)
    high_bits = jnp.where(high < num_up_to, low_bits, above)

    low_value, high_value = (
        jax.lax.bitcast_convert_type(found, jnp.float32)
        for found in (low_bits, high_bits)
    )
    share = position - jnp.floor(position)
    value = low_value * (1.0 - share) + high_value * share
    has_nan = jnp.max(bits, axis=(1, 2, 3), keepdims=True) > INFINITY
    return jnp.where(has_nan, jnp.nan, value)


def _bits_at_rank(
    bits: Int[Array, "b h w c"], rank: Int[Array, ""]
) -> Int[Array, "b 1 1 1"]:
    """Returns the bit pattern at a rank (from 0) of each picture's sorted patterns."""

    def set_bit(i, found):
        trial = found | (1 << (BITS - 1 - i))
        num_below = jnp.sum(bits < trial, axis=(1, 2, 3), keepdims=True)
        return jnp.where(num_below <= rank, trial, found)

    zeros = jnp.zeros((bits.shape[0], 1, 1, 1), jnp.int32)
    return jax.lax.fori_loop(0, BITS, set_bit, zeros)
