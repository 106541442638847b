"""What the doctor overfits: a short run's settings, a few pictures, and their text.

A stage that cannot learn eight pictures by heart will not learn a billion. The settings
are the config's own but for its length: a run of hundreds of steps needs a larger
learning rate and a shorter warm-up than one of millions (a rate of 0 stays 0), and
guidance is off, because what is learned by heart needs none. A crop stage is overfitted
on one crop of each picture, not on an empty corner: of several the most varied.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import UInt8

from imagen_jax.config import StageConfig
from imagen_jax.data.crops import CropSpec, crop_offset, crop_pair
from imagen_jax.data.images import box_downsample, decode, resize_and_crop
from imagen_jax.data.records import BadRecordError, Source
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch, TextEmbeddings

NUM_PICTURES = 8
MAX_READS = 1000  # records looked at to find so many
NUM_CROPS = 16
SMALL_RESOLUTION = 32  # up to it a step takes several noise levels of each picture
NUM_REPEATS = 4

WARMUP_STEPS = 20
# The least rate of a run this short. Adafactor's is a share of the parameter's size.
RATE_OF_KIND = {"adam": 4e-3, "muon": 4e-3, "adafactor": 5e-2}
MIN_SAMPLER_STEPS, MAX_SAMPLER_STEPS = 8, 32


class Pictures(NamedTuple):
    """Pictures of distinct captions; `low_res` is None for a base stage."""

    captions: list[str]
    image: UInt8[np.ndarray, "n r r 3"]
    low_res: UInt8[np.ndarray, "n l l 3"] | None


def overfit_config(
    config: StageConfig, num_steps: int
) -> tuple[StageConfig, CropSpec | None]:
    """Returns the settings of a run that overfits, and the crops that it is fed.

    A crop stage becomes a stage of the crops' size.

    Args:
      config: of the stage.
      num_steps: length of the run.
    """
    optimizer, train, sampler = config.optimizer, config.train, config.sampler
    rate = optimizer.learning_rate
    if rate > 0:
        rate = max(rate, RATE_OF_KIND[optimizer.kind])
    crop, sizes = None, {}
    if size := config.data.crop_size:
        crop = CropSpec(size, config.resolution // config.low_res_resolution)
        sizes = {"resolution": size, "low_res_resolution": size // crop.factor}
    side = config.data.crop_size or config.resolution
    batch_size = NUM_PICTURES * (NUM_REPEATS if side <= SMALL_RESOLUTION else 1)
    steps = min(max(sampler.num_steps, MIN_SAMPLER_STEPS), MAX_SAMPLER_STEPS)
    fitted = dataclasses.replace(
        config,
        **sizes,
        data=dataclasses.replace(config.data, crop_size=0),
        optimizer=dataclasses.replace(
            optimizer,
            learning_rate=rate,
            warmup_steps=min(optimizer.warmup_steps, WARMUP_STEPS),
            decay="cosine",
            clip_norm=optimizer.clip_norm or 1.0,
        ),
        train=dataclasses.replace(
            train,
            num_steps=num_steps,
            batch_size=batch_size,
            microbatches=math.gcd(train.microbatches, batch_size),
        ),
        sampler=dataclasses.replace(sampler, num_steps=steps, guidance_weight=1.0),
    )
    return fitted, crop


def read_pictures(
    source: Source, config: StageConfig, crop: CropSpec | None
) -> Pictures:
    """Returns the first pictures of the source whose captions differ, at most 8.

    Args:
      source: where records come from.
      config: of the stage; its resolutions before cropping.
      crop: cut one crop of each, or None for whole pictures.

    Raises:
      UserError: no picture can be read.
    """
    captions, images, low_res = [], [], []
    last_error = "it is empty"
    for row in range(min(len(source), MAX_READS)):
        try:
            record = source[row]
            if record.caption in captions:  # text could not tell the two apart
                continue
            picture = resize_and_crop(decode(record.image), config.resolution)
        except BadRecordError as error:
            last_error = str(error)
            continue
        if crop:
            offset = _varied_offset(picture, crop, config.seed, row)
            picture, small = crop_pair(picture, offset, crop)
            low_res.append(small)
        elif config.is_super_resolution:
            factor = config.resolution // config.low_res_resolution
            low_res.append(box_downsample(picture, factor))
        captions.append(record.caption)
        images.append(picture)
        if len(images) == NUM_PICTURES:
            break
    if not images:
        raise UserError(
            f"data.source = {config.data.source!r} has no picture that can be read at "
            f"{config.resolution} pixels ({last_error}); give another data.source"
        )
    return Pictures(captions, np.stack(images), np.stack(low_res) if low_res else None)


def _varied_offset(
    picture: UInt8[np.ndarray, "r r 3"], crop: CropSpec, seed: int, row: int
) -> tuple[int, int]:
    """Returns that one of `NUM_CROPS` random offsets at which pixels vary most."""
    positions = range(row * NUM_CROPS, (row + 1) * NUM_CROPS)
    offsets = [crop_offset(seed, i, len(picture), crop) for i in positions]

    def variation(offset: tuple[int, int]) -> float:
        top, left = offset
        return picture[top : top + crop.size, left : left + crop.size].std()

    return max(offsets, key=variation)


def repeated_batch(
    pictures: Pictures, text: TextEmbeddings, size: int, *, with_low_res: bool
) -> Batch:
    """Returns a batch of the pictures over and over, on the host.

    Args:
      pictures: what it holds.
      text: theirs.
      size: examples of the batch.
      with_low_res: as crop training, which makes low-res pictures beforehand.
    """
    rows = np.arange(size) % len(pictures.captions)
    return Batch(
        pictures.image[rows],  # pyright: ignore[reportArgumentType]
        TextEmbeddings(text.embed[rows], text.mask[rows]),
        pictures.low_res[rows]
        if with_low_res and pictures.low_res is not None
        else None,  # pyright: ignore[reportArgumentType]
    )


def fake_text(captions: Sequence[str], width: int, max_length: int) -> TextEmbeddings:
    """Returns random embeddings, drawn from each caption's hash; "" is the null text.

    A caption of k words has k valid tokens, at most `max_length`.

    Args:
      captions: any.
      width: of the embeddings.
      max_length: tokens, padding included.
    """
    embed = np.zeros((len(captions), max_length, width), ml_dtypes.bfloat16)
    mask = np.zeros(embed.shape[:2], bool)
    for i, caption in enumerate(captions):
        length = min(len(caption.split()), max_length)
        seed = int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8])
        embed[i, :length] = np.random.default_rng(seed).standard_normal((length, width))
        mask[i, : max(length, 1)] = True
    return TextEmbeddings(embed, mask)  # pyright: ignore[reportArgumentType]
