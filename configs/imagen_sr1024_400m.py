"""The paper's second super-resolution stage: (text, 256 x 256) -> 1024 x 1024.

Imagen, arXiv:2205.11487, section 2.5 and appendix F.3. No self-attention, so that it
is trained on 64 -> 256 crops of 1024-pixel pictures (`data.crop_size`) and sampled on
whole ones.

    python -m imagen_jax.train --config=configs/imagen_sr1024_400m.py --workdir=DIR
    python -m imagen_jax.train --config=configs/imagen_sr1024_400m.py:literal ...

The listing does not determine the published 400 M parameters: "nearest" (default) has
no 1 x 1 shortcut where the width stays and projects the text to 512 (439 M); "literal"
is Fig. A.27 to A.29 to the letter (525 M).
"""

import ml_collections


def get_config(reading: str = "nearest") -> ml_collections.ConfigDict:
    """Returns the settings; `reading` is "nearest" or "literal"."""
    readings = {
        "nearest": {"shortcut": "changed", "text_proj_width": 512},
        "literal": {"shortcut": "always", "text_proj_width": 0},
    }
    return ml_collections.ConfigDict(
        {
            "name": "sr1024",
            "resolution": 1024,
            "low_res_resolution": 256,
            "text": {"encoder": "t5_v1_1_xxl", "width": 4096, "max_length": 128},
            "network": {
                "kind": "efficient_unet",
                "channels": [128, 256, 512, 1024],
                "num_res_blocks": [2, 4, 8, 8],
                "strides": [2, 2, 2, 2],
                "self_attention": [False, False, False, False],
                "text_attention": [False, False, False, True],
                "num_heads": 8,
                "skip": "add",
                "remat": True,
                "dtype": "bfloat16",
                **readings[reading],
            },
            "diffusion": {
                "schedule": {"kind": "linear"},
                "aug_schedule": {"kind": "cosine"},
                "prediction": "eps",
                "cond_drop_prob": 0.1,
            },
            "data": {"crop_size": 256},
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-4,
                "warmup_steps": 10_000,
            },
            "train": {"batch_size": 2048, "num_steps": 2_500_000},
            "mesh": {"data": -1, "fsdp": 4},
            "sampler": {"kind": "ddpm", "num_steps": 128, "aug_level": 0.1},
        }
    )
