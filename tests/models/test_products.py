import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.models.products import product


def random(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 2**-8)])
def test_product_and_its_gradients_are_exact_but_for_one_rounding(
    leading, dtype, error
):
    x, kernel = random(*leading, 16, dtype=dtype), random(16, 6, seed=1, dtype=dtype)
    weights = random(*leading, 6, seed=2, dtype=dtype).astype(jnp.float32)

    def gradients(function, *arguments):
        def loss(*arguments):
            return jnp.sum(weights * function(*arguments).astype(jnp.float32))

        return jax.grad(loss, (0, 1))(*arguments)

    exact = x.astype(jnp.float32), kernel.astype(jnp.float32)
    ours = [product(x, kernel), *gradients(product, x, kernel)]
    theirs = [jnp.dot(*exact), *gradients(jnp.dot, *exact)]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        difference = abs(mine.astype(jnp.float32) - other).max()
        assert difference <= error * abs(other).max()


def test_every_product_of_two_bfloat16_has_a_float32_result():
    """Else a CPU has no instruction for it, and XLA computes it in float32."""
    arguments = random(8, 16, dtype="bfloat16"), random(16, 6, dtype="bfloat16")
    step = jax.value_and_grad(lambda x, k: product(x, k).sum(), (0, 1))
    text = str(jax.make_jaxpr(step)(*arguments))
    assert text.count("dot_general") == 3
    assert text.count("preferred_element_type=float32") == 3
