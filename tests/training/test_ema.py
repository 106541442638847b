import jax.numpy as jnp
import numpy as np

from imagen_jax.training.ema import ema_decay, update_ema


def test_average_follows_its_recursion():
    params = {"a": jnp.array([2.0])}
    ema = {"0.5": {"a": jnp.array([0.0])}}
    got = update_ema(ema, params, jnp.int32(1000))
    np.testing.assert_allclose(got["0.5"]["a"], [1.0])


def test_t38_the_decay_is_warmed_up():
    """Red without the warm-up: after 100 updates an average with decay 0.9999 would
    still be 99 % the initial parameters.
    """
    value = {"a": jnp.array([0.0])}
    ema = {"0.9999": value}
    for n in range(100):
        ema = update_ema(ema, {"a": jnp.array([1.0])}, jnp.int32(n))
    assert float(ema["0.9999"]["a"][0]) > 0.99
    np.testing.assert_allclose(float(ema_decay(0.9999, jnp.int32(10**7))), 0.9999)


def test_several_decays_are_kept_apart():
    ema = {"0.5": {"a": jnp.zeros(1)}, "0.9": {"a": jnp.zeros(1)}}
    got = update_ema(ema, {"a": jnp.ones(1)}, jnp.int32(10_000))
    np.testing.assert_allclose(got["0.5"]["a"], [0.5])
    np.testing.assert_allclose(got["0.9"]["a"], [0.1], rtol=1e-5)
