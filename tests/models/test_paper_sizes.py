"""The shipped configs of the paper's three stages, built abstractly."""

from pathlib import Path

import jax
import pytest

from imagen_jax.config_file import load_config
from imagen_jax.stage import build_stage

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.mark.parametrize(
    ("file", "least", "most"),
    [
        ("imagen_64_2b.py", 2.0e9, 2.45e9),
        ("imagen_sr256_600m.py", 570e6, 630e6),
        ("imagen_sr256_600m.py:literal", 480e6, 600e6),
        ("imagen_sr1024_400m.py", 380e6, 440e6),
        ("imagen_sr1024_400m.py:literal", 480e6, 600e6),
    ],
)
def test_parameter_counts(file, least, most):
    stage = build_stage(load_config(str(CONFIGS / file)), platform="tpu")
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert least <= count <= most


def test_t31_schedules_are_the_paper_s():
    """Red if SR256 takes the linear schedule or SR1024 the cosine."""
    files = ("imagen_64_2b.py", "imagen_sr256_600m.py", "imagen_sr1024_400m.py")
    kinds = [load_config(str(CONFIGS / f)).diffusion.schedule.kind for f in files]
    assert kinds == ["cosine", "cosine", "linear"]


def test_t26_shipped_configs_drop_a_tenth_of_the_captions():
    """Red if a config overrides the paper's 10 % (lucidrains' ImagenConfig: 50 %)."""
    for file in CONFIGS.glob("*.py"):
        assert load_config(str(file)).diffusion.cond_drop_prob == 0.1
