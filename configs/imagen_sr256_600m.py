"""The paper's first super-resolution stage: (text, 64 x 64) -> 256 x 256.

Imagen, arXiv:2205.11487, sections 2.4 and 4.1, appendices B.1 and F.2.

    python -m imagen_jax.train --config=configs/imagen_sr256_600m.py --workdir=DIR
    python -m imagen_jax.train --config=configs/imagen_sr256_600m.py:literal ...

The listing does not determine the published 600 M parameters. Two readings:
"nearest" (default) concatenates a skip into every residual block and projects the text
to 2048, which comes nearest 600 M; "literal" is Fig. A.27 to A.29 to the letter, with
skips added (529 M). See `imagen_jax.config.EfficientUNetConfig`.
"""

import ml_collections


def get_config(reading: str = "nearest") -> ml_collections.ConfigDict:
    """Returns the settings; `reading` is "nearest" or "literal"."""
    readings = {
        "nearest": {"skip": "concat", "shortcut": "always", "text_proj_width": 2048},
        "literal": {"skip": "add", "shortcut": "always", "text_proj_width": 0},
    }
    return ml_collections.ConfigDict(
        {
            "name": "sr256",
            "resolution": 256,
            "low_res_resolution": 64,
            "text": {"encoder": "t5_v1_1_xxl", "width": 4096, "max_length": 128},
            "network": {
                "kind": "efficient_unet",
                "channels": [128, 256, 512, 1024],
                "num_res_blocks": [2, 4, 8, 8],
                "strides": [2, 2, 2, 2],
                "self_attention": [False, False, False, True],
                "text_attention": [False, False, False, True],
                "num_heads": 8,
                "remat": True,
                "dtype": "bfloat16",
                **readings[reading],
            },
            "diffusion": {
                "schedule": {"kind": "cosine"},
                "aug_schedule": {"kind": "cosine"},
                "prediction": "eps",
                "cond_drop_prob": 0.1,
            },
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-4,
                "warmup_steps": 10_000,
            },
            "train": {"batch_size": 2048, "num_steps": 2_500_000},
            "mesh": {"data": -1, "fsdp": 4},
            "sampler": {
                "kind": "ddpm",
                "num_steps": 128,
                "guidance_weight": 8.0,
                "aug_level": 0.1,
            },
        }
    )
