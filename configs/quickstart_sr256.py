r"""The quickstart's super-resolution stage: (text, 64 x 64) -> 256 x 256.

    ./launch/quickstart.sh                       (which runs the line below)
    python -m imagen_jax.train --config=configs/quickstart_sr256.py --workdir=DIR \
        --config.data.source=tfds:DATA:train --config.data.store=STORE \
        --config.preview.source=tfds:DATA:held_out

The paper's Efficient U-Net, smaller and on 4 x 4 pixel patches. Without guidance: the
low-res picture says nearly all.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings that differ from imagen_jax's defaults."""
    return ml_collections.ConfigDict(
        {
            "name": "sr256",
            "resolution": 256,
            "low_res_resolution": 64,
            "text": {"encoder": "minilm", "width": 384, "max_length": 16},
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
            "optimizer": {
                "kind": "muon",
                "learning_rate": 4e-3,
                "warmup_steps": 20,
                "decay": "cosine",
                "b2": 0.99,
                "clip_norm": 1.0,
            },
            "train": {
                "batch_size": 2,
                "num_steps": 500,
                "ema_decays": [0.99],
                "log_every": 20,
                "checkpoint_every": 250,
                "keep_checkpoints": 1,
                "preview_every": 250,
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
