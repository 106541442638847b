"""The smallest stages that still have every part, for tests."""

import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.config import StageConfig
from imagen_jax.config_file import from_dict
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.stage import Stage, build_stage

WIDTH, TOKENS = 12, 5

BASE = {
    "name": "base",
    "resolution": 8,
    "text": {"encoder": "tiny", "width": WIDTH, "max_length": TOKENS},
    "network": {
        "kind": "unet",
        "channels": 8,
        "channel_mults": [1, 2],
        "num_res_blocks": [1, 1],
        "attention": [False, True],
        "head_dim": 8,
        "norm_groups": 4,
        "dtype": "float32",
    },
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 4},
    "train": {
        "batch_size": 8,
        "num_steps": 12,
        "ema_decays": [0.9, 0.99],
        "log_every": 1,
        "checkpoint_every": 4,
    },
    "sampler": {"num_steps": 3, "guidance_weight": 3.0},
}
SR = {
    **BASE,
    "name": "sr16",
    "resolution": 16,
    "low_res_resolution": 8,
    "network": {
        "kind": "efficient_unet",
        "channels": [8, 16],
        "num_res_blocks": [1, 1],
        "strides": [2, 2],
        "self_attention": [False, True],
        "text_attention": [False, True],
        "num_heads": 2,
        "norm_groups": 4,
        "dtype": "float32",
    },
    "sampler": {"num_steps": 2, "guidance_weight": 1.0, "aug_level": 0.1},
}

# Networks for what does not depend on them: half the time to compile.
ONE_LEVEL = {
    "base": {"channel_mults": [1], "num_res_blocks": [1], "attention": [True]},
    "sr": {
        "channels": [8],
        "num_res_blocks": [1],
        "strides": [2],
        "self_attention": [False],
        "text_attention": [True],
    },
}


def tiny_config(kind: str = "base", **changes) -> StageConfig:
    """Returns the config of a tiny "base" or "sr" stage, groups of keys merged."""
    tree = {"base": BASE, "sr": SR}[kind]
    for key, value in changes.items():
        merged = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
        tree = {**tree, key: merged}
    return from_dict(tree)


def tiny_stage(kind: str = "base", **changes) -> Stage:
    """Returns such a stage."""
    return build_stage(tiny_config(kind, **changes))


def tiny_text(b: int, seed: int = 0) -> TextEmbeddings:
    """Returns random captions of 1 to TOKENS valid tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, TOKENS + 1, b)
    embed = rng.standard_normal((b, TOKENS, WIDTH)).astype(np.float32)
    return TextEmbeddings(
        jnp.asarray(embed), jnp.asarray(np.arange(TOKENS) < lengths[:, None])
    )


def tiny_batch(stage: Stage, seed: int = 0) -> Batch:
    """Returns a batch of random pictures of the stage's size, numpy."""
    config = stage.config
    rng = np.random.default_rng(seed)
    shape = (config.train.batch_size, config.resolution, config.resolution, 3)
    text = tiny_text(config.train.batch_size, seed)
    return Batch(
        rng.integers(0, 256, shape, dtype=np.uint8), jax.tree.map(np.asarray, text)
    )
