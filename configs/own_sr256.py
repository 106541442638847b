r"""A super-resolution stage for one's own pictures: (text, 64 x 64) -> 256 x 256.

    ./launch/train_folder.sh DIR                 (which runs the line below)
    python -m imagen_jax.train --config=configs/own_sr256.py:NUM_PICTURES \
        --workdir=DIR --config.data.source=index:INDEX:train \
        --config.data.store=STORE --config.preview.source=index:INDEX:held_out

The quickstart's network and optimizer, with longer captions and larger batches. It
learns from every part of a picture, so NUM_PICTURES does not decide how long it trains,
only whether decoded pictures are kept in memory. It is trained on the pictures' own
64-pixel averages; how much it gains over bicubic on pictures that were held out is in
the run's report.
"""

import ml_collections


def get_config(num_pictures: str = "320") -> ml_collections.ConfigDict:
    """Returns the settings that differ from imagen_jax's defaults."""
    return ml_collections.ConfigDict(
        {
            "name": "sr256",
            "resolution": 256,
            "low_res_resolution": 64,
            "text": {"encoder": "minilm", "width": 384, "max_length": 64},
            "network": {
                "kind": "efficient_unet",
                "channels": [32, 64],
                "num_res_blocks": [1, 2],
                "strides": [2, 2],
                "self_attention": [False, False],
                "text_attention": [False, True],
                "num_heads": 2,
                "low_res_residual": True,
                "shortcut": "changed",
                "patch_size": 4,
                "norm_groups": 8,
                "dtype": "float32",
            },
            "diffusion": {
                "schedule": {"kind": "cosine"},
                "aug_schedule": {"kind": "cosine_truncated"},
                "aug_level_max": 0.2,
                "low_res_upsample": "bicubic",
                "prediction": "x0",
                "weighting": "x0",
                "times": "low_discrepancy",
            },
            # In memory while that takes 1 GB at most.
            "data": {"cache": int(num_pictures) <= 5_000},
            "optimizer": {
                "kind": "muon",
                "learning_rate": 4e-3,
                "warmup_steps": 20,
                "decay": "cosine",
                "b2": 0.99,
                "clip_norm": 1.0,
            },
            "train": {
                "batch_size": 8,  # splits over up to 8 virtual devices
                "num_steps": 600,
                "ema_decays": [0.99],
                "log_every": 20,
                "checkpoint_every": 200,
                "keep_checkpoints": 1,
                "preview_every": 300,
            },
            "sampler": {
                "kind": "ddim",
                "num_steps": 8,
                "guidance_weight": 1.0,
                "threshold": "static",
            },
            "preview": {"count": 8},
        }
    )
