"""The arms of each ablation: that they differ, in what they should, and how."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.ablations.table import ABLATIONS, find_ablation
from imagen_jax.config_file import load_config
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Conditioning
from imagen_jax.stage import build_stage

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = (  # no projection: after its bias, a and -a would no longer cancel
    *("network.channels=8", "network.head_dim=8", "network.norm_groups=4"),
    "network.text_proj_width=0",
)


def config_of(ablation, arm, changes=()):
    path = str(CONFIGS / ABLATIONS[ablation].config)
    overrides = [*ABLATIONS[ablation].overrides, *arm.overrides]
    return load_config(path, [*changes, *overrides])


@pytest.mark.parametrize("name", ABLATIONS)
def test_arms_differ_in_config_or_sampling(name):
    ablation = ABLATIONS[name]
    assert len({arm.name for arm in ablation.arms}) == len(ablation.arms) >= 2
    for one, other in itertools.combinations(ablation.arms, 2):
        if one.encoder:
            assert one.encoder != other.encoder
            assert one[1:3] == other[1:3] == ((), ())
        elif ablation.config:
            assert config_of(name, one) != config_of(name, other)
            assert one.sampling == other.sampling
        else:
            assert one.sampling != other.sampling
            assert one.overrides == other.overrides == ()


def test_the_first_arm_is_the_shipped_config():
    for ablation in ABLATIONS.values():
        assert ablation.arms[0].overrides == ()


def conditioning_change(name, fill_params, text, other):
    """Returns how far the network's output moves where the text changes."""
    arm = next(a for a in ABLATIONS["conditioning"].arms if a.name == name)
    stage = build_stage(config_of("conditioning", arm, SMALL))
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    params = fill_params(abstract, 3)
    mask = jnp.ones(text.shape[:2], bool)
    z = jnp.linspace(-1, 1, 2 * 64 * 64 * 3).reshape(2, 64, 64, 3)

    def output(embed):
        cond = Conditioning(text_embed=embed, text_mask=mask)
        return stage.network.apply({"params": params}, z, jnp.zeros(2), cond)

    return float(np.abs(output(text) - output(other)).max()), set(
        "/".join(str(key.key) for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(abstract)
    )


def test_what_each_arm_can_see_of_the_text(fill_params):
    """Two texts whose tokens differ and whose mean does not: a, -a and b, -b.

    No arm sees the order: tokens carry their places from the encoder alone.
    """
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.standard_normal((2, 2, 1, 384)), jnp.float32)
    text, same_mean = (jnp.concatenate([x, -x], axis=1) for x in (a, b))
    paths, moved = {}, {}
    for name in ("mean_pooling", "attention_pooling", "cross_attention"):
        reordered, paths[name] = conditioning_change(
            name, fill_params, text, text[:, ::-1]
        )
        assert reordered < 1e-4
        moved[name], _ = conditioning_change(name, fill_params, text, same_mean)
    assert moved["mean_pooling"] < 1e-4
    assert moved["attention_pooling"] > 1e-3
    assert moved["cross_attention"] > 1e-3
    assert paths["mean_pooling"] < paths["attention_pooling"]  # a proper subset
    assert paths["attention_pooling"] < paths["cross_attention"]


def test_unknown_name_is_refused():
    with pytest.raises(UserError, match="did you mean 'conditioning'"):
        find_ablation("conditionning")
