import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.stage import build_stage
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from imagen_jax.training.step import (
    accumulate_gradients,
    draw_examples,
    train_step,
)
from tests.tiny import ONE_LEVEL, tiny_batch, tiny_config, tiny_stage

STEPS = 20


def single_device_losses(stage, steps=STEPS):
    optimizer = make_optimizer(stage.config.optimizer, stage.config.train.num_steps)
    state = init_state(stage, optimizer, jax.random.key(0))
    step_fn = jax.jit(functools.partial(train_step, stage, optimizer))
    losses = []
    for k in range(steps):
        batch = jax.tree.map(jnp.asarray, tiny_batch(stage, seed=k))
        state, metrics = step_fn(jax.random.key(1), state, batch)
        losses.append(float(metrics["loss"]))
    return np.array(losses), state


@pytest.mark.parametrize("kind", ["base", "sr"])
@pytest.mark.parametrize("unroll", [True, False])
def test_microbatched_equals_whole(kind, unroll, fill_params):
    whole = tiny_stage(kind, network=ONE_LEVEL[kind])
    parts = build_stage(
        tiny_config(kind, network=ONE_LEVEL[kind], train={"microbatches": 4}),
        platform="cpu" if unroll else "tpu",
    )
    params = fill_params(jax.eval_shape(whole.init_params, jax.random.key(0)), 0)
    batch = jax.tree.map(jnp.asarray, tiny_batch(whole))

    def losses_and_grads(stage):
        examples = draw_examples(stage, jax.random.key(3), batch)
        return jax.jit(functools.partial(accumulate_gradients, stage))(params, examples)

    expected, got = losses_and_grads(whole), losses_and_grads(parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        expected,
        got,
    )


def test_microbatched_losses_equal_over_20_steps():
    network = ONE_LEVEL["base"]
    whole, _ = single_device_losses(tiny_stage(network=network))
    parts, _ = single_device_losses(
        tiny_stage(network=network, train={"microbatches": 2})
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-4)


def test_bfloat16_computes_and_float32_is_kept():
    """Red if the weights, an average or a moment is kept in the network's dtype."""
    stage = tiny_stage(network={"dtype": "bfloat16", **ONE_LEVEL["base"]})
    optimizer = make_optimizer(stage.config.optimizer, 100)
    key = jax.random.key(0)
    before = jax.eval_shape(functools.partial(init_state, stage, optimizer), key)
    step = functools.partial(train_step, stage, optimizer)
    program, (after, metrics) = jax.make_jaxpr(step, return_shape=True)(
        key, before, tiny_batch(stage)
    )
    for leaf in jax.tree.leaves((before, after, metrics)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    kinds = re.findall(r":(\w+)\[[^\]]*\] = conv_general_dilated", str(program))
    assert kinds.count("bf16") > len(kinds) / 2


def test_loss_falls_on_one_batch():
    stage = tiny_stage(
        network=ONE_LEVEL["base"],
        optimizer={"learning_rate": 1e-2, "warmup_steps": 1},
    )
    optimizer = make_optimizer(stage.config.optimizer, 100)
    state = init_state(stage, optimizer, jax.random.key(0))
    step_fn = jax.jit(functools.partial(train_step, stage, optimizer))
    batch = jax.tree.map(jnp.asarray, tiny_batch(stage))
    losses = []
    for _ in range(60):
        state, metrics = step_fn(jax.random.key(1), state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def draw(kind="sr", **changes):
    stage = tiny_stage(kind, train={"batch_size": 256}, **changes)
    batch = jax.tree.map(jnp.asarray, tiny_batch(stage))
    return draw_examples(stage, jax.random.key(5), batch), batch


def test_t12_t39_every_example_has_its_own_randomness():
    """Red if a level is drawn once per batch (T12), or if two draws share a key: the
    noise of the low-res picture and of the picture would correlate (T39).
    """
    examples, _ = draw()
    assert len(np.unique(examples.aug_level)) == 256
    assert len(np.unique(examples.t)) == 256
    assert len({x.tobytes() for x in np.asarray(examples.eps)}) == 256

    def correlation(a, b):
        return abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])

    noise, aug = np.asarray(examples.eps), np.asarray(examples.aug_noise)
    assert correlation(noise[:, :8, :8], aug) < 0.02
    assert correlation(noise.reshape(256, -1)[:, :192], aug.reshape(256, -1)) < 0.02
    assert correlation(examples.t, examples.aug_level) < 0.2
    assert correlation(noise[:-1], noise[1:]) < 0.02


def test_t15_training_covers_all_augmentation_levels():
    """Red if training draws aug_level from a part of [0, 1] only."""
    examples, _ = draw()
    level = np.sort(np.asarray(examples.aug_level))
    assert np.abs(level - (np.arange(256) + 0.5) / 256).max() < 0.1


def test_t28_dropped_captions_become_the_null_text():
    """Red if dropping zeroes the embedding but keeps the caption's mask."""
    examples, batch = draw(diffusion={"cond_drop_prob": 0.5})
    dropped = ~np.any(np.asarray(examples.text.embed), axis=(1, 2))
    assert 0.4 < dropped.mean() < 0.6
    first = np.arange(batch.text.mask.shape[1]) == 0
    assert (np.asarray(examples.text.mask)[dropped] == first).all()
    np.testing.assert_array_equal(
        examples.text.mask[~dropped], batch.text.mask[~dropped]
    )


def test_t09_low_res_is_made_from_normalised_pictures():
    """Red if the low-res picture is taken from bytes in [0, 1] and noised there."""
    examples, batch = draw()
    assert float(examples.low_res.min()) < -0.3
    small = np.asarray(batch.image, np.float32).reshape(256, 8, 2, 8, 2, 3)
    expected = small.mean((2, 4)) / 127.5 - 1
    np.testing.assert_allclose(examples.low_res, expected, atol=1e-5)


def test_non_finite_update_is_undone_and_counted():
    stage = tiny_stage(network=ONE_LEVEL["base"])
    optimizer = make_optimizer(stage.config.optimizer, 100)
    state = init_state(stage, optimizer, jax.random.key(0))
    step_fn = jax.jit(functools.partial(train_step, stage, optimizer))
    good = jax.tree.map(jnp.asarray, tiny_batch(stage))
    text = good.text._replace(embed=good.text.embed.at[0, 0, 0].set(jnp.nan))
    bad = good._replace(text=text._replace(mask=jnp.ones_like(text.mask)))
    state, _ = step_fn(jax.random.key(1), state, good)
    after, metrics = step_fn(jax.random.key(2), state, bad)
    assert not np.isfinite(metrics["loss"])
    for field in ("params", "ema_params", "opt_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, field), getattr(state, field)
        )
    assert int(after.step) == int(state.step) + 1
    assert int(after.num_skipped) == int(after.num_skipped_in_row) == 1
    after, _ = step_fn(jax.random.key(1), after, good)
    assert int(after.num_skipped) == 1
    assert int(after.num_skipped_in_row) == 0
