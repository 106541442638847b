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

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32
from PIL import Image

from imagen_jax.config import StageConfig
from imagen_jax.data.images import box_downsample, resize_and_crop
from imagen_jax.diffusion.augmentation import to_unit
from imagen_jax.diffusion.editing import resampling_steps
from imagen_jax.errors import UserError
from imagen_jax.sampling.cascade import CascadeStage, Part, Texts, sample_cascade
from imagen_jax.sampling.edits import Edit, Repaint
from imagen_jax.sampling.grid import make_grid
from imagen_jax.sampling.sampler import SamplingParams

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
    configs = [stage.sampler.stage.config for stage in stages]
    _check_size(editing, configs[-1])
    if editing.picture is not None and editing.strength == 0.0:
        results = []
        for config in configs:
            picture = at_resolution(editing, config.resolution).picture
            results.append(np.repeat(np.asarray(picture)[None], len(seeds), axis=0))
            report(Part(config.name, 0, results[-1]))
        return results
    return sample_cascade(
        stages,
        texts,
        seeds,
        batch_size=batch_size,
        put=put,
        report=report,
        edit_fn=lambda *call: edit_call(editing, *call),
    )


def edit_call(
    editing: Editing,
    stage: CascadeStage,
    settings: SamplingParams,
    rows: Int[np.ndarray, " b"],
) -> tuple[SamplingParams, Edit | None]:
    """Returns the traced values and the edit of one call of a stage's sampler.

    Without anything to edit, at strength 1 that is, the edit is None: the program of
    plain sampling runs.

    Args:
      editing: at the last stage's resolution; its strength above 0.
      stage: of the cascade.
      settings: of plain sampling.
      rows: the results that this call makes.
    """
    config = stage.config or stage.sampler.config
    here, edit = at_resolution(editing, stage.sampler.stage.config.resolution), Edit()
    if here.picture is not None:
        repeated = np.repeat(here.picture[None], len(rows), axis=0)
        known = to_unit(jnp.asarray(repeated))
        if here.strength < 1.0:
            grid = make_grid(stage.sampler.stage, config, here.strength)
            settings, edit = settings._replace(logsnrs=grid), Edit(start=known)
        if here.mask is not None:
            mask = np.repeat(here.mask[None, :, :, None], len(rows), axis=0)
            jump = here.jump or max(config.num_steps // 25, 1)
            steps = resampling_steps(config.num_steps, jump, here.repeats)
            edit = edit._replace(repaint=Repaint(known, jnp.float32(mask), steps))
    if here.mix is not None:
        others, shares = here.mix
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


def fit_editing(
    editing: Editing, resolution: int, say: Callable[[str], None]
) -> Editing:
    """Returns the editing with picture and mask at the cascade's resolution.

    Args:
      editing: of pictures of any size.
      resolution: of the last stage.
      say: called with a sentence where the picture is resized.
    """
    picture, mask = editing.picture, editing.mask
    if picture is None or picture.shape[:2] == (resolution, resolution):
        return editing
    height, width, _ = picture.shape
    cropped = "" if height == width else "the central square of "
    say(
        f"{cropped}the picture of {width} x {height} pixels is brought to "
        f"{resolution} x {resolution}"
    )
    mask = None if mask is None else fit_mask(mask, resolution)
    return editing._replace(picture=fit_picture(picture, resolution), mask=mask)


def describe_editing(editing: Editing, index: int) -> dict[str, Any]:
    """Returns what a result's recipe says of the edit; pictures by their SHA-256.

    Args:
      editing: the edit.
      index: of the result.
    """
    pixels = {"picture": editing.picture, "mask": editing.mask}
    text: dict[str, Any] = {
        f"{name}_sha256": hashlib.sha256(array.tobytes()).hexdigest()
        for name, array in pixels.items()
        if array is not None
    }
    text |= {"strength": editing.strength}
    if editing.mask is not None:
        text |= {"jump": editing.jump, "repeats": editing.repeats}
    if editing.mix is not None:
        others, shares = editing.mix
        text |= {"other_seed": int(others[index]), "share": float(shares[index])}
    return text


def _check_size(editing: Editing, last: StageConfig) -> None:
    size = last.resolution
    if editing.picture is not None and editing.picture.shape[:2] != (size, size):
        height, width = editing.picture.shape[:2]
        raise UserError(
            f"the picture has {width} x {height} pixels and stage {last.name} makes "
            f"{size} x {size}; bring it to that size by sampling.editing.fit_editing"
        )
