"""Every stage trains and samples on a GPU in bfloat16; skipped where there is none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from imagen_jax.training.step import train_step
from tests.tiny import tiny_batch, tiny_stage


@pytest.mark.gpu
@pytest.mark.parametrize("text_only", [False, True])
@pytest.mark.parametrize("kind", ["base", "sr"])
def test_trains_20_steps_and_samples_in_bfloat16(kind, text_only):
    network = {"dtype": "bfloat16"}
    if kind == "sr" and text_only:  # the SR1024 form
        network["self_attention"] = [False, False]
    stage = tiny_stage(kind, network=network)
    assert not stage.unroll  # on a GPU the layers are scanned
    optimizer = make_optimizer(stage.config.optimizer, 100)
    state = init_state(stage, optimizer, jax.random.key(0))
    step_fn = jax.jit(functools.partial(train_step, stage, optimizer))
    batch = jax.tree.map(jnp.asarray, tiny_batch(stage))
    for _ in range(20):
        state, metrics = step_fn(jax.random.key(1), state, batch)
    assert np.isfinite(metrics["loss"])
    assert int(state.num_skipped) == 0
    low_res = None
    if stage.config.is_super_resolution:
        low_res = jnp.zeros((8, 8, 8, 3))
    settings = sampling_params(stage.config.sampler, np.arange(8))
    pictures = Sampler(stage)(state.ema_params["0.9"], batch.text, settings, low_res)
    assert np.isfinite(pictures).all()
    assert set(pictures.devices()) == {jax.devices("gpu")[0]}
