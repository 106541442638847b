import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.models.layers import GroupNorm


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def flax_norm(groups):
    """Flax's GroupNorm, scaled and shifted afterwards."""

    def apply(variables, x, film=None):
        y = nn.GroupNorm(groups, epsilon=1e-5).apply(variables, x)
        if film is None:
            return y
        scale, shift = jnp.split(film[:, None, None], 2, axis=-1)
        return y * (1 + scale) + shift

    return apply


@pytest.mark.parametrize("with_film", [False, True])
@pytest.mark.parametrize(
    ("asked", "groups", "width"), [(4, 4, 12), (32, 32, 96), (5, 4, 8)]
)
def test_group_norm_and_its_gradients_are_those_of_flax(
    asked, groups, width, with_film
):
    x = 3 + 2 * random(2, 6, 4, width)
    variables = {
        "params": {
            "scale": 1 + 0.3 * random(width, seed=1),
            "bias": random(width, seed=2),
        }
    }
    film = [0.5 * random(2, 2 * width, seed=3)] if with_film else []
    weights = random(2, 6, 4, width, seed=4)

    def loss(function, *args):
        return jnp.sum(weights * function(*args))

    for argnums in (1, 2, 3)[: 2 + with_film]:
        ours, theirs = (
            jax.grad(loss, argnums)(function, variables, x, *film)
            for function in (GroupNorm(asked).apply, flax_norm(groups))
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * abs(b).max()),
            ours,
            theirs,
        )
    np.testing.assert_allclose(
        GroupNorm(asked).apply(variables, x, *film),
        flax_norm(groups)(variables, x, *film),
        atol=1e-5,
    )


def test_group_norm_starts_as_flax_s_does():
    x = random(1, 2, 2, 6)
    ours = GroupNorm(3).init(jax.random.key(0), x)
    theirs = nn.GroupNorm(3).init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_group_norm_takes_statistics_in_float32():
    x = (100 + random(1, 8, 8, 4)).astype(jnp.bfloat16)
    norm = GroupNorm(2, jnp.bfloat16)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    exact = flax_norm(2)({"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.02)
