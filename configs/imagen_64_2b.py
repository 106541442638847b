r"""The paper's base stage: text -> 64 x 64, about 2 B parameters.

Imagen, arXiv:2205.11487, section 4.1 and appendix F.1.

    python -m imagen_jax.train --config=configs/imagen_64_2b.py --workdir=DIR \
        --config.data.source=tfds:SET:train --config.data.store=STORE

SET is any with a picture and a caption, prepared or by its folder: coco_captions/2014.
In the paper: batch 2048 and 2.5 M steps on 256 TPU v4. Where it is silent (EMA,
precision, text length), this takes what the README's "Readings" say.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings that differ from imagen_jax's defaults, or are the point."""
    return ml_collections.ConfigDict(
        {
            "name": "base",
            "resolution": 64,
            "text": {"encoder": "t5_v1_1_xxl", "width": 4096, "max_length": 128},
            "network": {
                "kind": "unet",
                "channels": 512,
                "channel_mults": [1, 2, 3, 4],
                "num_res_blocks": [3, 3, 3, 3],
                "attention": [False, True, True, True],
                "head_dim": 64,
                "remat": True,
                "dtype": "bfloat16",
            },
            "diffusion": {
                "schedule": {"kind": "cosine"},
                "prediction": "eps",
                "cond_drop_prob": 0.1,
            },
            "optimizer": {
                "kind": "adafactor",
                "learning_rate": 1e-4,
                "warmup_steps": 10_000,
            },
            "train": {"batch_size": 2048, "num_steps": 2_500_000},
            "mesh": {"data": -1, "fsdp": 16},
            "sampler": {"kind": "ddpm", "num_steps": 250, "guidance_weight": 1.35},
        }
    )
