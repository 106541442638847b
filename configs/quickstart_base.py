r"""The quickstart's base stage: text -> 64 x 64 drawings, on a laptop's CPU.

    ./launch/quickstart.sh                       (which runs the line below)
    python -m imagen_jax.train --config=configs/quickstart_base.py --workdir=DIR \
        --config.data.source=tfds:DATA:train --config.data.store=STORE \
        --config.preview.source=tfds:DATA:held_out

The paper's U-Net, smaller and on 4 x 4 pixel patches; x0-prediction, which learns
recognisable drawings soonest. docs/quickstart/ shows what it reaches.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings that differ from imagen_jax's defaults."""
    return ml_collections.ConfigDict(
        {
            "name": "base",
            "resolution": 64,
            "text": {"encoder": "minilm", "width": 384, "max_length": 16},
            "network": {
                "kind": "unet",
                "channels": 48,
                "channel_mults": [1, 2],
                "num_res_blocks": [1, 1],
                "attention": [False, True],
                "head_dim": 48,
                "text_proj_width": 96,
                "patch_size": 4,
                "dtype": "float32",
            },
            "diffusion": {
                "schedule": {"kind": "cosine"},
                "prediction": "x0",
                "weighting": "x0",
                "times": "low_discrepancy",
            },
            "data": {"cache": True},
            "optimizer": {
                "kind": "muon",
                "learning_rate": 4e-3,
                "warmup_steps": 50,
                "decay": "cosine",
                "b2": 0.99,
                "clip_norm": 1.0,
            },
            "train": {
                "batch_size": 32,
                "num_steps": 880,
                "ema_decays": [0.995],
                "log_every": 20,
                "checkpoint_every": 220,
                "keep_checkpoints": 1,
                "preview_every": 88,
            },
            "sampler": {
                "kind": "ddim",
                "num_steps": 16,
                "guidance_weight": 3.0,
                "threshold": "static",
            },
            "preview": {"count": 32, "num_steps": 8, "openmoji_set": "default"},
        }
    )
