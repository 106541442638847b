import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imagen_jax.errors import UserError
from imagen_jax.train_config import OptimizerConfig
from imagen_jax.training.optimizer import (
    learning_rate,
    make_optimizer,
    per_layer,
)


def rates(config, num_steps, counts):
    return [float(learning_rate(config, num_steps, jnp.int32(n))) for n in counts]


def test_warmup_is_linear_and_reaches_the_peak():
    config = OptimizerConfig(learning_rate=1e-4, warmup_steps=10_000)
    got = rates(config, 2_500_000, (0, 4999, 9999, 1_000_000))
    np.testing.assert_allclose(got, [1e-8, 5e-5, 1e-4, 1e-4], rtol=1e-5)


def test_t02_t41_decay_falls_to_zero_at_the_last_step():
    """Red if the paper's misprint is pasted (end_value=2500000): the rate climbs."""
    config = OptimizerConfig(learning_rate=1e-4, warmup_steps=100, decay="cosine")
    got = rates(config, 2_500_000, (99, 20_000, 1_250_050, 2_499_999, 3_000_000))
    assert max(got) <= 1e-4 * (1 + 1e-6)
    np.testing.assert_allclose(got[2], 5e-5, rtol=1e-3)
    assert got[3] < 1e-12 + 1e-10
    assert got[4] < 1e-11


@pytest.mark.parametrize("kind", ["adam", "adafactor", "muon"])
def test_t41_the_logged_rate_is_the_one_applied(kind):
    """Red if the logged schedule is not the optimizer's: steps of a constant gradient
    move a lone bias in proportion to the rate, once the moments have settled.
    """
    config = OptimizerConfig(kind=kind, learning_rate=0.01, warmup_steps=60)
    optimizer = make_optimizer(config, 100)
    params = {"layer": {"bias": jnp.ones((3,))}}
    state = optimizer.init(params)
    moves = []
    for _ in range(70):
        updates, state = optimizer.update(params, state, params)
        moves.append(float(jnp.abs(updates["layer"]["bias"]).max()))
    expected = rates(config, 100, range(70))
    assert expected[30] < 0.6 * expected[-1]  # the rate still rises where it counts
    moves, expected = (np.array(x)[30:] / x[-1] for x in (moves, expected))
    np.testing.assert_allclose(moves, expected, rtol=0.05)


def test_adafactor_of_a_stack_is_the_stack_of_adafactors():
    """Mapped over layers: unmapped, RMS clip and scale would mix the layers."""
    rng = np.random.default_rng(0)
    shape = (2, 130, 140)  # large enough that moments are factored
    weights = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    weights *= jnp.array([1.0, 100.0])[:, None, None]
    grads = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    grads *= jnp.array([1.0, 1e-3])[:, None, None]
    rule = optax.adafactor(1e-2)
    stacked = per_layer(rule)
    params = {"run": {"layers": {"kernel": weights}}, "out": {"kernel": weights[0]}}
    updates = {"run": {"layers": {"kernel": grads}}, "out": {"kernel": grads[0]}}
    state = stacked.init(params)
    got, _ = stacked.update(updates, state, params)
    for i in range(2):
        alone, _ = rule.update(grads[i], rule.init(weights[i]), weights[i])
        np.testing.assert_allclose(
            got["run"]["layers"]["kernel"][i], alone, rtol=1e-5, atol=1e-8
        )
    alone, _ = rule.update(grads[0], rule.init(weights[0]), weights[0])
    np.testing.assert_allclose(got["out"]["kernel"], alone, rtol=1e-5, atol=1e-8)


def test_clipping_bounds_the_gradient():
    config = OptimizerConfig(clip_norm=1.0, warmup_steps=1)
    optimizer = make_optimizer(config, 10)
    params = {"bias": jnp.zeros((2,))}
    state = optimizer.init(params)
    _, state = optimizer.update({"bias": jnp.array([300.0, 400.0])}, state, params)
    moments = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, dict))
    first = next(leaf for leaf in moments if isinstance(leaf, dict))
    np.testing.assert_allclose(first["bias"], [0.06, 0.08], rtol=1e-5)


def some_params(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {
        "stem": {"kernel": (3, 3, 4, 8), "bias": (8,)},
        "run": {"layers": {"kernel": (2, 130, 140), "bias": (2, 140)}},
        "out": {"kernel": (3, 3, 8, 4), "bias": (4,)},
    }

    def fill(shape):
        return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)

    return jax.tree.map(fill, shapes, is_leaf=lambda x: isinstance(x, tuple))


@pytest.mark.parametrize("kind", ["adam", "adafactor", "muon"])
def test_frozen_parameters_do_not_exist_for_the_optimizer(kind):
    """The others move as if they were alone: in weight decay, moments and clipping.

    Red if the gradient of what is frozen, which is large here, counts in the clip.
    """
    settings = {"kind": kind, "clip_norm": 1.0, "weight_decay": 0.1, "warmup_steps": 1}
    frozen = make_optimizer(OptimizerConfig(freeze="^out|bias$", **settings), 10)
    alone = make_optimizer(OptimizerConfig(**settings), 10)

    def trained(tree):
        kernels = {"kernel": tree["run"]["layers"]["kernel"]}
        return {"stem": {"kernel": tree["stem"]["kernel"]}, "run": {"layers": kernels}}

    params = some_params(0)
    state, state_alone = frozen.init(params), alone.init(trained(params))
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(state))
    assert sizes == sorted(leaf.size for leaf in jax.tree.leaves(state_alone))
    for step in range(2):
        grads = some_params(step + 1)
        grads["out"]["kernel"] *= 1e3
        updates, state = frozen.update(grads, state, params)
        wanted, state_alone = alone.update(trained(grads), state_alone, trained(params))
        jax.tree.map(np.testing.assert_array_equal, trained(updates), wanted)
        assert all(jnp.abs(leaf).min() > 0 for leaf in jax.tree.leaves(wanted))
        for path, update in jax.tree_util.tree_leaves_with_path(updates):
            if path[0].key == "out" or path[-1].key == "bias":
                np.testing.assert_array_equal(update, 0)
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("steam", r"'steam'.*such as out/bias, .*stem/kernel; it matches none"),
        ("^(stem|run|out)/", "matches all 6 of them, so nothing would be trained"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_refused(pattern, message):
    optimizer = make_optimizer(OptimizerConfig(freeze=pattern), 10)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(optimizer.init, some_params(0))
