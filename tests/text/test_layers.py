import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.text import layers


def random(*shape, seed=0, dtype=jnp.float32):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return jnp.asarray(values, dtype)


def attention_params(dtype=jnp.float32):
    def dense(fan_in, fan_out, seed):
        kernel = random(fan_in, fan_out, seed=seed, dtype=dtype) / fan_in**0.5
        return {"kernel": kernel, "bias": random(fan_out, seed=seed, dtype=dtype)}

    return {
        "query": dense(6, 8, 1),
        "key": dense(6, 8, 2),
        "value": dense(6, 8, 3),
        "out": dense(8, 6, 4),
    }


def test_attention_equals_loops_over_rows_heads_and_queries():
    x, p, bias = random(2, 5, 6), attention_params(), random(2, 5, 5, seed=9)
    visible = random(2, 5, 5, seed=8) > -0.5
    visible = visible | jnp.eye(5, dtype=bool)
    result = layers.attention(x, visible, p, num_heads=2, scale=0.7, bias=bias)
    q, k, v = (
        np.asarray(x @ p[name]["kernel"] + p[name]["bias"], np.float64)
        for name in ("query", "key", "value")
    )
    mixed = np.zeros((2, 5, 8))
    for row in range(2):
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            for i in range(5):
                seen = [j for j in range(5) if visible[row, i, j]]
                logits = [0.7 * q[row, i, part] @ k[row, j, part] for j in seen]
                weights = np.exp(logits + np.asarray(bias)[head, i, seen])
                mixed[row, i, part] = weights @ v[row, seen, part] / weights.sum()
    expected = mixed @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_norms_have_their_moments():
    x = 3 + 5 * random(2, 4, 64)
    p = {"scale": random(64, seed=1), "bias": random(64, seed=2)}
    normed = (layers.layer_norm(x, p, 1e-6) - p["bias"]) / p["scale"]
    np.testing.assert_allclose(normed.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(normed.std(-1), 1, atol=1e-4)
    normed = layers.rms_norm(x, p, 1e-6) / p["scale"]
    np.testing.assert_allclose(jnp.square(normed).mean(-1), 1, atol=1e-4)
    expected = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True))
    np.testing.assert_allclose(normed, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", [layers.layer_norm, layers.rms_norm])
def test_norms_do_not_divide_by_zero(norm):
    p = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    assert not norm(jnp.zeros((1, 1, 4)), p, 1e-6).any()


def test_bfloat16_parameters_round_only_what_enters_products():
    """Mutation: cast what `product` or `attention` gives to bfloat16."""
    x, visible = random(2, 5, 6), jnp.ones((1, 1, 5), bool)
    p = attention_params(jnp.bfloat16)
    result = layers.attention(x, visible, p, num_heads=2, scale=1.0)
    assert result.dtype == jnp.float32
    a, b = random(3, 300), random(300, 3, seed=1)
    exact = np.asarray(a.astype(jnp.bfloat16), np.float64) @ np.asarray(
        b.astype(jnp.bfloat16), np.float64
    )
    given = layers.product("ij,jk->ik", a, b, np.dtype(jnp.bfloat16))
    np.testing.assert_allclose(given, exact, rtol=0, atol=1e-4)  # bfloat16: 0.06


def test_float32_products_are_float32_on_every_backend():
    def program(dtype):
        return str(
            jax.make_jaxpr(layers.attention, static_argnums=(3, 4))(
                random(2, 5, 6),
                jnp.ones((1, 1, 5), bool),
                attention_params(dtype),
                2,
                1.0,
            )
        )

    assert program(jnp.float32).count("dot_general") == 6
    assert program(jnp.float32).count("Precision.HIGHEST") >= 6
    assert "precision=None" not in program(jnp.float32)
    # Several passes over operands that have one pass's digits would only cost time.
    assert "Precision.HIGHEST" not in program(jnp.bfloat16)
