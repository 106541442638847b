"""Editing with a whole cascade: image to image, inpainting, variations.

    image to image  every stage starts from the picture at its own resolution, noised to
                    time `strength`; 0 returns the picture, 1 is plain sampling
    inpainting      every stage keeps the pixels outside the mask
    variations      every stage takes its noise from between two seeds

They can be combined. Each stage sees the one before it as in plain sampling. Brought to
a lower resolution, a pixel counts as known only if all that it is the average of are:
nothing of what is to be replaced shows through.

One strength means another noise level in stages with other schedules: it is a time.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32
from PIL import Image

from imagen_jax.data.images import box_downsample, resize_and_crop
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.diffusion.editing import resampling_steps
from imagen_jax.errors import UserError
from imagen_jax.sampling.cascade import CascadeStage, Part, Texts
from imagen_jax.sampling.edits import Edit, Repaint
from imagen_jax.sampling.grid import make_grid
from imagen_jax.sampling.sampler import Sampler, SamplingParams, sampling_params

NEW = 128
"""Mask files are white (at least this grey) where the picture is to be drawn anew."""


class Editing(NamedTuple):
    """What is to be done to a picture, or between two seeds.

    Attributes:
      picture: of the last stage's resolution; None where only noise is mixed.
      mask: of the same size, true where the picture is drawn anew; None = everywhere.
      strength: time in [0, 1] from which the picture is sampled again.
      jump: steps that inpainting takes again at a time; None = 1 of 25, as the paper.
      repeats: how often it takes them; the time grows by this factor.
      mix: (other seeds, shares in [0, 1] of their noise), one per result.
    """

    picture: UInt8[np.ndarray, "r r 3"] | None = None
    mask: Bool[np.ndarray, "r r"] | None = None
    strength: float = 1.0
    jump: int | None = None
    repeats: int = 10
    mix: tuple[Int[np.ndarray, " b"], Float[np.ndarray, " b"]] | None = None


def check_editing(editing: Editing) -> None:
    """Raises a UserError where the parts of an editing do not fit each other."""
    if not 0.0 <= editing.strength <= 1.0:
        raise UserError(
            f"the strength is {editing.strength}; it must be in [0, 1]: 0 returns the "
            "picture, 1 draws everything anew"
        )
    if editing.repeats < 1 or (editing.jump is not None and editing.jump < 1):
        raise UserError(
            f"inpainting jumps by {editing.jump} steps and takes them "
            f"{editing.repeats} times; both must be at least 1"
        )
    if editing.picture is None:
        if editing.mask is not None or editing.strength < 1.0:
            raise UserError(
                "there is a mask or a strength below 1, and no picture; give the "
                "picture too"
            )
        return
    if editing.mask is None:
        return
    (height, width), (rows, columns) = editing.picture.shape[:2], editing.mask.shape
    if (height, width) != (rows, columns):
        raise UserError(
            f"the mask has {columns} x {rows} pixels and the picture {width} x "
            f"{height}; give a mask of the picture's size"
        )
    if not editing.mask.any():
        raise UserError(
            "the mask is black everywhere, so nothing would be drawn; paint white what "
            "is to be drawn anew"
        )


def edit_cascade(
    stages: Sequence[CascadeStage],
    texts: Texts,
    seeds: UInt32[np.ndarray, " b"],
    editing: Editing,
    *,
    batch_size: int,
    put: Callable[[Any], Any] = jax.device_put,
    report: Callable[[Part], None] = lambda part: None,
) -> list[UInt8[np.ndarray, "b _ _ 3"]]:
    """Returns the pictures of every stage.

    Args:
      stages: from the base up.
      texts: one row per result.
      seeds: one per result.
      editing: the same picture, mask and strength for all results.
      batch_size: pictures per call; a last, smaller part is padded and cropped.
      put: places the rows of a call on the devices.
      report: called after each call.

    Raises:
      UserError: as `check_editing`, or the picture is not of the last stage's size.
    """
    check_editing(editing)
    _check_size(editing, stages[-1].sampler)
    results: list[np.ndarray] = []
    floats: np.ndarray | None = None
    for stage in stages:
        config = stage.sampler.stage.config
        here = at_resolution(editing, config.resolution)
        if here.picture is not None and here.strength == 0.0:
            results.append(np.repeat(here.picture[None], len(seeds), axis=0))
            floats = np.asarray(to_unit(jnp.asarray(results[-1])))
            report(Part(config.name, 0, results[-1]))
            continue
        params = stage.params() if callable(stage.params) else stage.params
        made = []
        for start in range(0, len(seeds), batch_size):
            rows = np.arange(start, start + batch_size) % len(seeds)  # pads by wrapping
            settings, edit = _values(stage, here, seeds, texts.blend, rows)
            prompts, negatives, seconds = jax.tree.map(
                lambda leaf, rows=rows: put(leaf[rows]), texts[:3]
            )
            pictures = stage.sampler(
                params,
                prompts,
                settings,
                None if floats is None else put(floats[rows]),
                uncond_text=negatives,
                second_text=seconds,
                edit=edit,
            )
            made.append(np.asarray(pictures)[: len(seeds) - start])
            part = np.asarray(to_uint8(jnp.asarray(made[-1])))
            report(Part(config.name, start, part))
        del params
        floats = np.concatenate(made)
        results.append(np.asarray(to_uint8(jnp.asarray(floats))))
    return results


def _values(
    stage: CascadeStage,
    editing: Editing,
    seeds: UInt32[np.ndarray, " b"],
    blend: float,
    rows: Int[np.ndarray, " b"],
) -> tuple[SamplingParams, Edit | None]:
    """Returns the traced values and the edit of one call of a stage's sampler.

    Without anything to edit, at strength 1 that is, the edit is None: the program of
    plain sampling runs.

    Args:
      stage: of the cascade.
      editing: at the stage's resolution; its strength above 0.
      seeds: of all results.
      blend: share of second prompts.
      rows: the results that this call makes.
    """
    config = stage.config or stage.sampler.config
    settings = sampling_params(config, seeds[rows], blend)
    settings = settings._replace(logsnrs=stage.logsnrs)
    edit = Edit()
    if editing.picture is not None:
        repeated = np.repeat(editing.picture[None], len(rows), axis=0)
        known = to_unit(jnp.asarray(repeated))
        if editing.strength < 1.0:
            grid = make_grid(stage.sampler.stage, config, editing.strength)
            settings, edit = settings._replace(logsnrs=grid), Edit(start=known)
        if editing.mask is not None:
            mask = np.repeat(editing.mask[None, :, :, None], len(rows), axis=0)
            jump = editing.jump or max(config.num_steps // 25, 1)
            steps = resampling_steps(config.num_steps, jump, editing.repeats)
            edit = edit._replace(repaint=Repaint(known, jnp.float32(mask), steps))
    if editing.mix is not None:
        others, shares = editing.mix
        mix = jnp.asarray(others[rows], jnp.uint32), jnp.float32(shares[rows])
        edit = edit._replace(mix=mix)
    changed = any(part is not None for part in edit)
    return settings, edit if changed else None


def at_resolution(editing: Editing, resolution: int) -> Editing:
    """Returns the editing with picture and mask box-averaged to a stage's resolution.

    Args:
      editing: at a multiple of the resolution.
      resolution: of the stage. A pixel of the mask is true if any in its box is.
    """
    if editing.picture is None:
        return editing
    factor = len(editing.picture) // resolution
    picture, mask = box_downsample(editing.picture, factor), editing.mask
    if mask is not None:
        boxes = mask.reshape(resolution, factor, resolution, factor)
        mask = boxes.any(axis=(1, 3))
    return editing._replace(picture=picture, mask=mask)


def fit_picture(
    picture: UInt8[np.ndarray, "h w 3"], resolution: int
) -> UInt8[np.ndarray, "r r 3"]:
    """Returns the central square of a picture of any size at `resolution`.

    Reduced as the training pictures were (`data.images.resize_and_crop`), and enlarged
    by Pillow's bicubic filter; of that resolution already, it is returned as it is.
    """
    side = min(picture.shape[:2])
    if side >= resolution:
        return resize_and_crop(picture, resolution)
    square = resize_and_crop(picture, side)
    size = (resolution, resolution)
    return np.array(Image.fromarray(square).resize(size, Image.Resampling.BICUBIC))


def fit_mask(mask: Bool[np.ndarray, "h w"], resolution: int) -> Bool[np.ndarray, "r r"]:
    """Returns a mask as `fit_picture` does, true wherever a true pixel contributes.

    Below half a level of grey a contribution is not seen.
    """
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1)
    return fit_picture(grey, resolution)[..., 0] > 0


def _check_size(editing: Editing, last: Sampler) -> None:
    size = last.stage.config.resolution
    if editing.picture is not None and editing.picture.shape[:2] != (size, size):
        height, width = editing.picture.shape[:2]
        raise UserError(
            f"the picture has {width} x {height} pixels and stage "
            f"{last.stage.config.name} makes {size} x {size}; bring it to that size, "
            "see sampling.editing.fit_picture"
        )
