import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.config import EfficientUNetConfig
from imagen_jax.diffusion.guidance import null_text
from imagen_jax.interfaces import Conditioning
from imagen_jax.models.layers import depth_to_space, space_to_depth
from imagen_jax.models.network import build_network
from tests.tiny import TOKENS, WIDTH, tiny_stage, tiny_text


def inputs(stage, b=2, seed=0):
    rng = np.random.default_rng(seed)
    size = stage.config.resolution
    z = jnp.asarray(rng.standard_normal((b, size, size, 3)), jnp.float32)
    logsnr = jnp.asarray(rng.uniform(-10, 10, b), jnp.float32)
    text = tiny_text(b, seed)
    low_res = aug_level = aug_noise = None
    if stage.config.is_super_resolution:
        small = (b, stage.low_res_resolution, stage.low_res_resolution, 3)
        low_res = jnp.asarray(rng.standard_normal(small), jnp.float32)
        aug_level = jnp.asarray(rng.uniform(0, 1, b), jnp.float32)
        aug_noise = jnp.asarray(rng.standard_normal(small), jnp.float32)
    return z, logsnr, stage.condition(text, low_res, aug_level, aug_noise)


def filled(stage, fill_params, seed=0):
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    return fill_params(abstract, seed)


@functools.partial(jax.jit, static_argnums=0)
def run(stage, params, z, logsnr, cond):
    return stage.network.apply({"params": params}, z, logsnr, cond)


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_output_has_the_picture_s_shape_in_float32(kind, fill_params):
    stage = tiny_stage(kind, network={"dtype": "bfloat16"})
    z, logsnr, cond = inputs(stage)
    output = run(stage, filled(stage, fill_params), z, logsnr, cond)
    assert output.shape == z.shape
    assert output.dtype == jnp.float32
    assert np.isfinite(output).all()


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_every_input_matters(kind, fill_params):
    stage = tiny_stage(kind)
    z, logsnr, cond = inputs(stage)
    params = filled(stage, fill_params)
    before = run(stage, params, z, logsnr, cond)
    other = tiny_text(2, seed=9)
    changed = [
        (z + 1, logsnr, cond),
        (z, logsnr + 1, cond),
        (z, logsnr, cond._replace(text_embed=other.embed)),
    ]
    if cond.low_res is not None:
        changed.append((z, logsnr, cond._replace(low_res=cond.low_res + 1)))
        changed.append((z, logsnr, cond._replace(aug_logsnr=cond.aug_logsnr + 1)))
    for arguments in changed:
        difference = np.abs(run(stage, params, *arguments) - before)
        assert difference.max(axis=(1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_every_parameter_gets_a_gradient(kind, fill_params):
    stage = tiny_stage(kind)
    arguments = inputs(stage)
    params = filled(stage, fill_params)

    def loss(params):
        return jnp.square(stage.network.apply({"params": params}, *arguments)).sum()

    grads = jax.jit(jax.grad(loss))(params)
    zero = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        # A key's bias shifts all logits of a query alike, so softmax does not see it.
        if "key']['bias" not in jax.tree_util.keystr(path) and not np.any(leaf)
    ]
    assert not zero


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_scanned_and_rematerialised_equals_unrolled(kind, fill_params):
    """One checkpoint serves both: the same parameters, the same output and gradient."""
    stage = tiny_stage(kind, network={"num_res_blocks": [1, 3]})
    params = filled(stage, fill_params)
    arguments = inputs(stage)
    config = dataclasses.replace(stage.config.network, remat=True)

    def loss(network):
        def of(params):
            return jnp.square(network.apply({"params": params}, *arguments)).mean()

        return jax.jit(jax.value_and_grad(of))

    value, grads = loss(build_network(stage.config.network, unroll=True))(params)
    value_2, grads_2 = loss(build_network(config, unroll=False))(params)
    np.testing.assert_allclose(value, value_2, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        grads,
        grads_2,
    )


@pytest.mark.parametrize("skip", ["add", "concat"])
@pytest.mark.parametrize("shortcut", ["always", "changed"])
def test_readings_of_the_efficient_unet_run(skip, shortcut, fill_params):
    stage = tiny_stage("sr", network={"skip": skip, "shortcut": shortcut})
    output = run(stage, filled(stage, fill_params), *inputs(stage))
    assert np.isfinite(output).all()


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_t19_t21_padding_has_no_effect(kind, fill_params):
    """Red if Attention or TextPooling drops its mask: pads then change the picture."""
    stage = tiny_stage(kind)
    z, logsnr, cond = inputs(stage)
    params = filled(stage, fill_params)
    mask = jnp.arange(TOKENS) < jnp.array([[2], [3]])
    cond = cond._replace(text_mask=mask)
    garbage = jnp.where(mask[..., None], cond.text_embed, 100.0)
    a = run(stage, params, z, logsnr, cond)
    b = run(stage, params, z, logsnr, cond._replace(text_embed=garbage))
    longer = cond._replace(
        text_embed=jnp.pad(garbage, ((0, 0), (0, 3), (0, 0))),
        text_mask=jnp.pad(mask, ((0, 0), (0, 3))),
    )
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, run(stage, params, z, logsnr, longer), atol=1e-5)


def test_t20_text_is_normalised_token_by_token(fill_params):
    """Red if the text's LayerNorm becomes a GroupNorm over tokens: then a further token
    changes how the first is seen. Seen here as: scaling one token changes nothing.
    """
    stage = tiny_stage()
    z, logsnr, cond = inputs(stage)
    params = filled(stage, fill_params)
    # Pooling by "none": the pool's mean is over normalised tokens too, but keep to one.
    stage = tiny_stage(network={"text_pooling": "none"})
    scale = jnp.array([1.0, 50.0, 1.0, 1.0, 1.0])[:, None]
    a = run(stage, params, z, logsnr, cond)
    b = run(stage, params, z, logsnr, cond._replace(text_embed=cond.text_embed * scale))
    np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("self_attention", [True, False])
def test_t23_null_text_gives_no_nan(self_attention, fill_params):
    """Red if `null_text` masks every position: softmax over nothing is NaN, which
    text-only attention (SR1024) cannot survive.
    """
    stage = tiny_stage("sr", network={"self_attention": [False, self_attention]})
    z, logsnr, cond = inputs(stage)
    text = null_text(2, TOKENS, WIDTH, jnp.float32)
    cond = cond._replace(text_embed=text.embed, text_mask=text.mask)
    output = run(stage, filled(stage, fill_params), z, logsnr, cond)
    assert np.isfinite(output).all()


def test_null_text_does_not_depend_on_its_length(fill_params):
    stage = tiny_stage()
    z, logsnr, cond = inputs(stage)
    params = filled(stage, fill_params)
    outputs = []
    for n in (1, 5, 11):
        text = null_text(2, n, WIDTH, jnp.float32)
        cond = Conditioning(text.embed, text.mask)
        outputs.append(run(stage, params, z, logsnr, cond))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    np.testing.assert_allclose(outputs[0], outputs[2], atol=1e-5)


def names_of(stage):
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)
    }


def test_t33_the_way_up_takes_every_skip(fill_params):
    """Red if a skip is left out: n + 1 blocks up for n down, the stem's included."""
    names = names_of(tiny_stage(network={"num_res_blocks": [2, 3]}))
    first, last = "up_0_block_0", "up_0_block_last"
    # Level 0 (width 8): block 0 sees 16 (from below) + 8, the last 8 + 8 (the stem).
    assert names[f"{first}/res/conv_in/kernel"][2] == 24
    assert names[f"{last}/res/conv_in/kernel"][2] == 16
    assert names["up_0_blocks/layers/res/conv_in/kernel"] == (1, 3, 3, 16, 8)
    assert names["up_1_blocks/layers/res/conv_in/kernel"][0] == 2


def test_t34_the_efficient_unet_resamples_once_per_level():
    """Red if a level is resampled twice or not at all: the maps would not fit."""
    stage = tiny_stage("sr", network={"strides": [2, 1]})
    shapes = {}

    def spy(x):
        shapes.setdefault("sizes", []).append(x.shape[1])
        return x

    network = build_network(stage.config.network, unroll=True, constrain=spy)
    arguments = inputs(stage)
    jax.eval_shape(lambda k: network.init(k, *arguments), jax.random.key(0))
    assert shapes["sizes"] == [16, 8, 8, 8]  # into each DBlock, then each UBlock


@pytest.mark.parametrize("skip", ["add", "concat"])
def test_the_usual_order_has_the_same_parameters_and_more_work(skip, fill_params):
    stages = [
        tiny_stage("sr", network={"skip": skip, "resampling": order})
        for order in ("first", "last")
    ]
    shapes = [jax.eval_shape(each.init_params, jax.random.key(0)) for each in stages]
    assert shapes[0] == shapes[1]
    z, logsnr, cond = inputs(stages[0])
    params = filled(stages[0], fill_params)
    outputs = [run(each, params, z, logsnr, cond) for each in stages]
    assert outputs[1].shape == z.shape
    assert not np.allclose(*outputs)
    flops = [
        run.lower(each, params, z, logsnr, cond).cost_analysis()["flops"]
        for each in stages
    ]
    assert 2 * flops[0] < flops[1] < 5 * flops[0]


def test_t35_sr1024_has_no_self_attention_anywhere():
    """Red if a middle or level attention keeps image keys in the text-only network."""
    off = [False, False]
    names = names_of(tiny_stage("sr", network={"self_attention": off}))
    assert any("text_key" in name for name in names)
    assert not any("_attention/key/" in name for name in names)
    with_self = names_of(tiny_stage("sr"))
    assert any("_attention/key/" in name for name in with_self)


def test_t35_sr1024_moves_with_its_input(fill_params):
    """Red if something depends on position: circular shifts by whole strides commute
    with the network up to the borders' padding, which the centre does not see.
    """
    network = {
        "self_attention": [False, False],
        "num_res_blocks": [1, 1],
        "text_attention": [False, True],
    }
    stage = tiny_stage("sr", resolution=64, low_res_resolution=32, network=network)
    z, logsnr, cond = inputs(stage)
    # GroupNorm's statistics are of the whole map: a circular shift keeps them.
    params = filled(stage, fill_params)
    shifted = cond._replace(low_res=jnp.roll(cond.low_res, 4, axis=1))
    a = run(stage, params, z, logsnr, cond)
    b = run(stage, params, jnp.roll(z, 4, axis=1), logsnr, shifted)
    centre = slice(28, 36)
    a, b = np.roll(a, 4, axis=1)[:, centre, centre], np.asarray(b)[:, centre, centre]
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_t36_attention_follows_each_block_in_the_base_and_each_stack_in_sr():
    """Red if the base attends once a level, or SR after every block."""
    base = names_of(tiny_stage(network={"num_res_blocks": [2, 3]}))
    sr = names_of(tiny_stage("sr"))
    assert "down_1_blocks/layers/attention/query/kernel" in base
    assert base["down_1_blocks/layers/attention/query/kernel"][0] == 2
    assert "down_1_attention/query/kernel" in sr
    assert not any("layers/attention" in name for name in sr)


def test_t40_extreme_noise_levels_are_clipped_and_finite(fill_params):
    """Red if `sinusoid` does not clip, or computes in the compute type."""
    stage = tiny_stage(network={"dtype": "bfloat16"})
    z, _, cond = inputs(stage)
    params = filled(stage, fill_params)
    at = [
        run(stage, params, z, jnp.full((2,), logsnr), cond)
        for logsnr in (-20.0, -1e6, -jnp.inf)
    ]
    assert np.isfinite(at[0]).all()
    np.testing.assert_array_equal(at[0], at[1])
    np.testing.assert_array_equal(at[0], at[2])
    near = [run(stage, params, z, jnp.full((2,), x), cond) for x in (9.9, 10.0)]
    assert np.abs(near[0] - near[1]).max() > 0  # bfloat16 would round both to 750


def test_pixel_unshuffle_inverts():
    x = jnp.arange(2 * 8 * 8 * 3, dtype=jnp.float32).reshape(2, 8, 8, 3)
    folded = space_to_depth(x, 4)
    assert folded.shape == (2, 2, 2, 48)
    np.testing.assert_array_equal(folded[0, 0, 1, :12], x[0, 0, 4:8].ravel())
    np.testing.assert_array_equal(depth_to_space(folded, 4), x)


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_patches_keep_the_picture_s_shape(kind, fill_params):
    stage = tiny_stage(kind, network={"patch_size": 2})
    output = run(stage, filled(stage, fill_params), *inputs(stage))
    assert output.shape[1] == stage.config.resolution


def test_default_efficient_unet_is_the_paper_s_listing():
    config = EfficientUNetConfig()
    assert config.channels == (128, 256, 512, 1024)
    assert config.num_res_blocks == (2, 4, 8, 8)
    assert config.downsampling == 16
