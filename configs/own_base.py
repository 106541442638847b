r"""A base stage for one's own pictures: text -> 64 x 64, on a laptop's CPU.

    ./launch/train_folder.sh DIR                 (which runs the line below)
    python -m imagen_jax.train --config=configs/own_base.py:NUM_PICTURES \
        --workdir=DIR --config.data.source=index:INDEX:train \
        --config.data.store=STORE --config.preview.source=index:INDEX:held_out

The quickstart's network and optimizer, with longer captions. NUM_PICTURES decides how
long it trains: so that each picture is seen about 100 times, within limits. It is
small: of photographs expect colours, layout and vague shapes. On a GPU give it more
channels and finer patches (docs/own-data.md).
"""

import ml_collections

VIEWS = 100  # of each picture
BATCH_SIZE = 32
MIN_STEPS, MAX_STEPS = 1_000, 4_000


def get_config(num_pictures: str = "320") -> ml_collections.ConfigDict:
    """Returns the settings that differ from imagen_jax's defaults."""
    wanted = VIEWS * int(num_pictures) // BATCH_SIZE
    num_steps = min(max(wanted, MIN_STEPS), MAX_STEPS)
    return ml_collections.ConfigDict(
        {
            "name": "base",
            "resolution": 64,
            "text": {"encoder": "minilm", "width": 384, "max_length": 64},
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
            "data": {"cache": True},  # 12 KB a picture
            "optimizer": {
                "kind": "muon",
                "learning_rate": 4e-3,
                "warmup_steps": 50,
                "decay": "cosine",
                "b2": 0.99,
                "clip_norm": 1.0,
            },
            "train": {
                "batch_size": BATCH_SIZE,
                "num_steps": num_steps,
                "ema_decays": [0.995],
                "log_every": 20,
                "checkpoint_every": 250,
                "keep_checkpoints": 1,
                "preview_every": 250,
            },
            "sampler": {
                "kind": "ddim",
                "num_steps": 16,
                "guidance_weight": 3.0,
                "threshold": "static",
            },
            "preview": {"count": 16, "num_steps": 8},
        }
    )
