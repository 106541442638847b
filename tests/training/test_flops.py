"""The count of operations against counts by hand."""

import dataclasses
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from imagen_jax.config_file import load_config
from imagen_jax.interfaces import Conditioning
from imagen_jax.stage import build_stage
from imagen_jax.training.flops import count_flops, training_flops
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import init_state
from imagen_jax.training.step import train_step
from tests.tiny import ONE_LEVEL, tiny_batch, tiny_config, tiny_text

CONFIGS = Path(__file__).parent.parent.parent / "configs"
MATRIX = jnp.ones((6, 5))
PICTURE = jnp.ones((2, 8, 8, 3))
PRODUCT = 2 * 6 * 5 * 6  # of MATRIX and its transpose


def product(x):
    return x @ x.T


def gram_by_rows(x):
    return jax.lax.map(lambda row: x @ row, x)


def convolve(x, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers
    )


def count(function, *arguments):
    return count_flops(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (product, PRODUCT),
        (lambda x: jax.nn.softmax(x * x + 1), 0),
        (jax.jit(product), PRODUCT),
        (jax.checkpoint(product), PRODUCT),
        (lambda x: (product(x), x + 1)[1], 0),
        (lambda x: jnp.einsum("ij,ij->i", x, x), 2 * 30),
        (gram_by_rows, PRODUCT),
        (lambda x: jax.lax.cond(x[0, 0] > 0, product, lambda x: x @ x.T @ x @ x.T, x),
         PRODUCT + 2 * 6 * 6 * 5 + 2 * 6 * 5 * 6),
        (lambda x: jax.lax.platform_dependent(x, cpu=product, default=product),
         PRODUCT),
        (lambda x: jax.lax.platform_dependent(x, cpu=gram_by_rows, default=product),
         PRODUCT),
        (lambda x: jax.lax.platform_dependent(
            x, cpu=lambda x: product(x) + product(-x), default=product),
         PRODUCT),
    ],
    ids="dot softmax jit remat unused einsum scan cond platforms cpu_loop "
    "cpu_more".split(),
)  # fmt: skip
def test_products_are_counted_once_each(function, expected):
    assert count(function, MATRIX) == expected


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_and_its_gradients(stride):
    """The gradients cost as much as the convolution, which dilation does not change."""
    kernel = jnp.ones((3, 3, 3, 7))
    forward = 2 * 2 * (8 // stride) ** 2 * 7 * 3 * 3 * 3

    def total(x, kernel):
        return convolve(x, kernel, stride).sum()

    assert count(total, PICTURE, kernel) == forward
    assert count(jax.value_and_grad(total), PICTURE, kernel) == forward + forward
    both = count(jax.value_and_grad(total, argnums=(0, 1)), PICTURE, kernel)
    assert both == forward + 2 * forward


def test_a_loop_of_unknown_length_is_refused():
    def until_large(x):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="its length is not known"):
        count(until_large, jnp.ones((3, 3)))


def step_flops(config):
    """Returns what is traced for a whole train step, the same on any platform."""
    stage = build_stage(config, platform="tpu")
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    state = jax.eval_shape(
        functools.partial(init_state, stage, optimizer), jax.random.key(0)
    )
    step = functools.partial(train_step, stage, optimizer)
    return count(step, jax.random.key(0), state, tiny_batch(stage))


@pytest.mark.slow
def test_training_is_three_times_the_forward_pass():
    """The first layers' inputs need no gradient, so it is a little less."""
    config = tiny_config(network=ONE_LEVEL["base"])
    stage = build_stage(config, platform="tpu")
    params = jax.eval_shape(stage.init_params, jax.random.key(0))
    z, text = jnp.zeros((1, 8, 8, 3)), tiny_text(1)
    cond = Conditioning(text.embed, text.mask)
    forward = count(lambda p: stage.denoiser(p)(z, jnp.zeros(1), cond), params)
    assert 2.7 * forward < training_flops(config) <= 3 * forward


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "sr"])
def test_training_is_that_of_the_step_and_recomputation_is_not_counted(kind):
    config = tiny_config(kind, network=ONE_LEVEL[kind])
    with_remat = tiny_config(kind, network={**ONE_LEVEL[kind], "remat": True})
    flops = training_flops(config)
    assert training_flops(with_remat) == flops
    pictures = config.train.batch_size
    # Beside the network the step resizes the low-res picture.
    assert flops * pictures <= step_flops(config) <= 1.05 * flops * pictures
    assert step_flops(with_remat) > 1.04 * step_flops(config)


@pytest.mark.slow
def test_crops_count_at_their_size():
    network = ONE_LEVEL["sr"]
    whole = training_flops(tiny_config("sr", network=network))
    crops = training_flops(tiny_config("sr", network=network, data={"crop_size": 8}))
    assert 0.24 < crops / whole < 0.4  # a quarter of the pixels, the text as before


@pytest.mark.slow
def test_the_paper_s_base_is_counted_in_seconds():
    """Traced only: 2 billion parameters would not fit where tests run."""
    config = load_config(str(CONFIGS / "imagen_64_2b.py"))
    start = time.process_time()
    flops = training_flops(dataclasses.replace(config, name="another"))
    assert time.process_time() - start < 30
    assert 4.5e12 < flops < 5e12
