"""The T5 v1.1 encoders by their sizes, so that a plan needs no weights.

Sizes are those of the published config.json files (google/t5-v1_1-*); the number of
parameters of each is checked in the tests.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from imagen_jax.errors import UserError
from imagen_jax.text import t5

_SIZES = {  # width, layers, heads, width of the feed-forward part
    "t5_v1_1_small": (512, 8, 6, 1024),
    "t5_v1_1_base": (768, 12, 12, 2048),
    "t5_v1_1_large": (1024, 24, 16, 2816),
    "t5_v1_1_xl": (2048, 24, 32, 5120),
    "t5_v1_1_xxl": (4096, 24, 64, 10240),
}


def encoder_config(name: str) -> t5.T5Config:
    """Returns the sizes of an encoder.

    Raises:
      UserError: the name is none of those that can be planned.
    """
    if name not in _SIZES:
        raise UserError(
            f"the encoder is {name!r}; those that can be planned are "
            f"{', '.join(_SIZES)}"
        )
    width, num_layers, num_heads, mlp_width = _SIZES[name]
    return t5.T5Config(
        vocab_size=32128,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        head_dim=64,
        mlp_width=mlp_width,
        gated=True,
        num_buckets=32,
        max_distance=t5.MAX_DISTANCE,
        shared_relative_bias=True,
    )


def abstract_encoder(name: str) -> tuple[Callable[..., jax.Array], Any]:
    """Returns (params, ids, mask) -> states, and the shapes of bfloat16 parameters.

    Raises:
      UserError: as `encoder_config`.
    """
    config = encoder_config(name)
    params = jax.tree.map(
        lambda dims: jax.ShapeDtypeStruct(dims, jnp.bfloat16),
        t5.params_shapes(config),
        is_leaf=lambda node: isinstance(node, tuple),
    )
    return functools.partial(t5.hidden_states, config=config), params
