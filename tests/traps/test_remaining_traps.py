"""Traps that no room's tests cover; docstrings name the mutation that turns red."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.config_file import load_config
from imagen_jax.data.images import box_downsample
from imagen_jax.diffusion.augmentation import to_unit
from imagen_jax.evaluation.quickstart import TARGETS
from imagen_jax.evaluation.super_resolution import sr_metrics
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from imagen_jax.training.step import draw_examples
from tests.tiny import tiny_batch, tiny_stage, tiny_text

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def test_t18_the_low_res_part_of_a_crop_is_taken_as_it_is():
    """Made before the crop, it differs at the borders from one made after it.

    Mutation: in `draw_examples`, downsample the crop although `batch.low_res` is there.
    """
    stage = tiny_stage("sr")
    batch = jax.tree.map(jnp.asarray, tiny_batch(stage))
    low_res = 255 - batch.image[:, ::2, ::2]
    examples = draw_examples(stage, jax.random.key(0), batch._replace(low_res=low_res))
    np.testing.assert_array_equal(examples.low_res, to_unit(low_res))
    assert examples.aug_noise.shape == low_res.shape  # drawn after the crop


def test_t18_a_crop_of_another_size_keeps_the_scale():
    """A network without self-attention is trained on crops and sampled on more.

    Mutation: in `Stage.condition`, upsample to `self.config.resolution`.
    """
    stage = tiny_stage("sr")
    small = jnp.zeros((2, 3, 3, 3))
    cond = stage.condition(tiny_text(2), small, jnp.zeros(2), small)
    assert cond.low_res.shape == (2, 6, 6, 3)


def test_t32_a_colour_shift_misses_the_target_of_consistency():
    """A shift that leaves every edge in place must show in a figure of the report.

    Mutation: in `psnr`, subtract each picture's mean colour from `difference`.
    """
    rng = np.random.default_rng(0)
    low_res = rng.integers(40, 216, (2, 8, 8, 3), np.uint8)
    truth = low_res.repeat(4, axis=1).repeat(4, axis=2)
    shifted = (truth + np.array([20, -20, 20])).astype(np.uint8)
    relation, target = TARGETS["sr_consistency_db"]
    assert relation == ">="
    np.testing.assert_array_equal(box_downsample(truth[0], 4), low_res[0])
    assert sr_metrics(truth, truth, low_res).consistency_db.min() >= target
    assert sr_metrics(shifted, truth, low_res).consistency_db.max() < target


def test_t32_the_quickstart_enlarges_without_eps_prediction():
    """The shift comes with eps-prediction, and a short run has no time to lose it.

    Mutation: `"prediction": "eps"` in configs/quickstart_sr256.py.
    """
    config = load_config(str(CONFIGS / "quickstart_sr256.py"))
    assert config.diffusion.prediction in ("v", "x0")


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_t38_parameters_are_all_that_is_averaged_and_all_there_is(kind):
    """Averaged tables gave black pictures; a bias left out would stay untrained.

    Mutation: a table of the network kept by `self.variable("tables", ...)`, or one
    parameter left out of `ema_params` in `init_state`.
    """
    stage = tiny_stage(kind)
    size = stage.config.resolution
    low_res = level = None
    if kind == "sr":
        low_res = jnp.zeros((1, stage.low_res_resolution, stage.low_res_resolution, 3))
        level = jnp.zeros(1)
    cond = stage.condition(tiny_text(1), low_res, level, low_res)
    z, logsnr = jnp.zeros((1, size, size, 3)), jnp.zeros(1)
    variables = jax.eval_shape(stage.network.init, jax.random.key(0), z, logsnr, cond)
    assert set(variables) == {"params"}
    optimizer = make_optimizer(stage.config.optimizer, 1)
    state = jax.eval_shape(
        lambda key: init_state(stage, optimizer, key), jax.random.key(0)
    )
    assert set(state.ema_params) == {"0.9", "0.99"}
    for average in state.ema_params.values():
        assert jax.tree.map(jnp.shape, average) == jax.tree.map(
            jnp.shape, variables["params"]
        )
