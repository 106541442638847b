import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.models.attention import attend

SHAPES = {"query": (2, 6, 3, 8), "key": (2, 9, 3, 8), "value": (2, 9, 3, 8)}


def arguments(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(2 * rng.normal(size=s), dtype) for s in SHAPES.values()]
    mask = jnp.arange(9) < jnp.asarray([[9], [1]])  # the second row has one key
    return *arrays, mask


def theirs(query, key, value, mask):
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None, None, :], implementation="xla"
    )


def test_attention_and_its_gradients_are_those_of_jax():
    *arrays, mask = arguments()
    weights = jnp.asarray(np.random.default_rng(1).normal(size=SHAPES["query"]))

    def loss(function, arrays):
        return jnp.sum(weights * function(*arrays, mask))

    np.testing.assert_allclose(attend(*arrays, mask), theirs(*arrays, mask), atol=1e-5)
    for mine, other in zip(
        jax.grad(loss, 1)(attend, arrays),
        jax.grad(loss, 1)(theirs, arrays),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, atol=1e-5 * abs(other).max())


def test_masked_keys_have_no_weight_and_no_gradient():
    query, key, value, mask = arguments()
    gradients = jax.grad(lambda *kv: attend(query, *kv, mask).sum(), (0, 1))(key, value)
    for gradient in gradients:
        assert not gradient[1, 1:].any()
        assert gradient[0].any()
    np.testing.assert_allclose(
        attend(query, key, value, mask)[1],
        jnp.broadcast_to(value[1, :1], SHAPES["query"][1:]),
        rtol=1e-6,
    )


def test_large_scores_do_not_overflow():
    query, key, value, mask = arguments()
    y = attend(1e4 * query, key, value, mask)
    np.testing.assert_allclose(y, theirs(1e4 * query, key, value, mask), rtol=1e-5)


def test_bfloat16_attention_keeps_float32_sums():
    *arrays, mask = arguments(jnp.bfloat16)
    exact = theirs(*(x.astype(jnp.float32) for x in arrays), mask)
    y = attend(*arrays, mask)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.03)
    text = str(jax.make_jaxpr(attend)(*arrays, mask))
    assert text.count("preferred_element_type=float32") == 2  # of scores and values
