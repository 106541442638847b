"""Which OpenMoji concept on which ground a picture shows, without a learned model.

The quickstart's drawings are known exactly, so its samples can be scored by template:

  ground: the median colour of the picture's border, named by the nearest colour of
    the palette in CIE Lab.
  object: what departs from the ground's colour is cut out by its bounding box and
    brought to one size; the nearest of the set's concepts, drawn on the palette's own
    colour of that ground and put through the same steps, is the answer. Nearest is the
    mean square difference of the departures, with the object's contrast free between
    `MIN_CONTRAST` and 1: else a pale apple would be whatever concept is pale by nature.

A picture has no object (-1) when nothing stands out from its ground, or when what
stands out correlates with the nearest template by less than `MIN_CORRELATION`: a plain
ground, noise and a formless stain are wrong answers, not lucky ones. The palette has
all nine colours, whatever the set, so a red ground that drifted to orange is wrong.

The score is meant for a share over many pictures. It does not judge beauty, and all
pictures are compared at 64 px, so it does not judge fine detail either: that is what
`imagen_jax.evaluation.super_resolution` is for.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from imagen_jax.data import images as image_io
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.super_resolution import upsample_bicubic

WORK_SIZE = 64  # pictures are compared at the base stage's resolution, in pixels
TEMPLATE_SIZE = 32  # side of a normalised object, in pixels
BORDER = 2  # width of the ring that shows the ground, in pixels of WORK_SIZE
# From the ground's colour in 8-bit RGB after a 3x3 mean, where noise of sd 8 stays
# below 12 and outlines one pixel wide above 60.
OBJECT_DISTANCE = 32.0
MIN_AREA = 0.01  # smallest object, as a share of the picture
MIN_PART = 0.05  # smallest part of an object, as a share of its largest part
MARGIN = 1.1  # side of the square cut-out over the long side of the object's box
MIN_CONTRAST = 0.5  # palest accepted object, as a share of the drawing's contrast
# Of an object with its template, both as departures from the ground. Real pictures
# have at least 0.9, blurred or bent ones 0.6; noise reaches 0.3.
MIN_CORRELATION = 0.5
# The box may be a pixel off: the best of these cut-outs counts.
SHIFTS = (-0.035, 0.0, 0.035)  # of the cut-out's centre, as a share of its side
SCALES = (0.93, 1.0, 1.07)  # of its side


class EmojiScorer:
    """Names the ground and the object of pictures of one OpenMoji set.

    Attributes:
      grounds: the palette's names; a ground index points here.
      concepts: the set's concepts; an object index points here.
    """

    def __init__(self, set_name: str):
        """Prepares the scorer; templates are drawn when their ground is first seen.

        Args:
          set_name: one of `openmoji.SETS`.
        """
        self.grounds = tuple(openmoji.GROUNDS)
        self.concepts = tuple(openmoji.concepts(set_name))
        self._templates: dict[str, Float[np.ndarray, "c p"]] = {}

    def score(
        self, images: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
        """Returns each picture's ground index and object index (-1: no object).

        Args:
          images: square pictures of any resolution, uint8; smaller ones than
            `WORK_SIZE` are enlarged to it.
        """
        if len(images) and images.shape[1] < WORK_SIZE:
            images = upsample_bicubic(images, WORK_SIZE)
        answers = [self._score_one(image) for image in images]
        ground, concept = np.array(answers, np.int64).reshape(-1, 2).T
        return ground, concept

    def _score_one(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[int, int]:
        small = image_io.resize_and_crop(image, WORK_SIZE)
        ground = nearest_ground(ground_colour(small))
        views = object_views(small, SHIFTS, SCALES)
        if views is None:
            return ground, -1
        return ground, _nearest(views, self._templates_on(self.grounds[ground]))

    def _templates_on(self, ground: str) -> Float[np.ndarray, "c p"]:
        """Returns every concept's normalised picture on one ground, made once."""
        if ground not in self._templates:
            self._templates[ground] = np.concatenate(
                [_template(concept, ground) for concept in self.concepts]
            )
        return self._templates[ground]


def ground_colour(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " 3"]:
    """Returns the median colour of the picture's border, 8-bit RGB."""
    inner = np.zeros(image.shape[:2], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.median(image[~inner].astype(np.float64), axis=0)


def nearest_ground(colour: Float[np.ndarray, " 3"]) -> int:
    """Returns the index in `openmoji.GROUNDS` of the nearest colour in CIE Lab.

    Args:
      colour: 8-bit RGB.
    """
    palette = np.array(list(openmoji.GROUNDS.values()), np.float64)
    distance = np.linalg.norm(to_lab(palette) - to_lab(colour), axis=-1)
    return int(np.argmin(distance))


def to_lab(rgb: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Returns CIE L*a*b* (D65 white) of 8-bit sRGB colours.

    Source: CIE 15:2004 for L*a*b*, IEC 61966-2-1 for sRGB.
    """
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T  # white is (1, 1, 1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def object_views(
    image: UInt8[np.ndarray, "h w 3"],
    shifts: tuple[float, ...],
    scales: tuple[float, ...],
) -> Float[np.ndarray, "v p"] | None:
    """Returns cut-outs of the object as departures from its ground.

    One view for each scale and pair of shifts, each 3 times `TEMPLATE_SIZE` squared
    values (8-bit differences over 255), flattened. The ground is 0 whatever its tint.
    None if there is no object.

    Args:
      image: a square picture of `WORK_SIZE`.
      shifts: of the cut-out's centre, as a share of its side, in both directions.
      scales: of the cut-out's side.
    """
    departure = image - ground_colour(image)
    smooth = ndimage.uniform_filter(departure, 3, axes=(0, 1))
    distance = np.linalg.norm(smooth, axis=-1)
    box = _object_box(distance > OBJECT_DISTANCE)
    if box is None:
        return None
    top, left, bottom, right = box
    side = MARGIN * max(bottom - top, right - left) * np.array(scales)[:, None]
    rows = _resampling((top + bottom) / 2.0 + side * np.array(shifts), side)
    columns = _resampling((left + right) / 2.0 + side * np.array(shifts), side)
    # Resampling is separable: rows @ picture @ columns^T, for every scale, vertical
    # shift, horizontal shift and channel at once.
    channels = np.moveaxis(departure / 255.0, -1, 0).astype(np.float32)
    views = rows[:, :, None, None] @ channels @ columns.mT[:, None, :, None]
    return views.reshape(-1, 3 * TEMPLATE_SIZE**2)


def _resampling(
    centre: Float[np.ndarray, "k m"], side: Float[np.ndarray, "k 1"]
) -> Float[np.ndarray, "k m t w"]:
    """Returns matrices that bring a stretch of a row to `TEMPLATE_SIZE` values.

    Linear interpolation, widened to the step where it reduces (no aliasing). A
    stretch may leave the picture: what is there is ground, a departure of 0.

    Args:
      centre: of the stretch, in pixels from the picture's edge.
      side: its length in pixels.
    """
    step = (side / TEMPLATE_SIZE)[..., None]  # [k 1 1], pixels per value
    places = np.arange(TEMPLATE_SIZE) + 0.5 - TEMPLATE_SIZE / 2.0
    points = (centre[..., None] + step * places)[..., None]
    pixels = np.arange(-WORK_SIZE, 2 * WORK_SIZE) + 0.5
    reach = np.maximum(step, 1.0)[..., None]
    weights = np.maximum(0.0, 1.0 - np.abs(pixels - points) / reach)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights[..., WORK_SIZE : 2 * WORK_SIZE].astype(np.float32)


def _nearest(
    views: Float[np.ndarray, "v p"], templates: Float[np.ndarray, "c p"]
) -> int:
    """Returns the template that comes nearest to any view, or -1 if none is near.

    Minimises |view - a template|^2 over views, templates and the contrast
    a in [MIN_CONTRAST, 1]; the best a is the clipped regression coefficient.
    """
    # einsum, not @: so small a product costs BLAS more in waking threads than in work.
    product = np.einsum("vp,cp->vc", views, templates)
    view_energy = np.sum(views**2, axis=1)[:, None]
    template_energy = np.sum(templates**2, axis=1)
    contrast = np.clip(product / template_energy, MIN_CONTRAST, 1.0)
    error = view_energy - contrast * (2.0 * product - contrast * template_energy)
    view, concept = np.unravel_index(np.argmin(error), error.shape)
    norms = np.sqrt(view_energy[view, 0] * template_energy[concept])
    return int(concept) if product[view, concept] >= MIN_CORRELATION * norms else -1


def _object_box(
    foreground: Bool[np.ndarray, "h w"],
) -> tuple[int, int, int, int] | None:
    """Returns (top, left, bottom, right) of the object, exclusive, or None.

    Parts smaller than `MIN_PART` of the largest are stray pixels and do not count.
    """
    labels = np.empty(foreground.shape, np.int32)
    ndimage.label(foreground, structure=np.ones((3, 3)), output=labels)
    areas = np.bincount(labels.ravel())[1:]  # label 0 is the ground
    if areas.max(initial=0) < MIN_AREA * foreground.size:
        return None
    kept = np.isin(labels, 1 + np.flatnonzero(areas >= MIN_PART * areas.max()))
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _template(concept: str, ground: str) -> Float[np.ndarray, "1 p"]:
    """Returns a concept on a ground, through the same steps as a picture."""
    # Drawn at 4x and box-averaged, as the base stage's training pictures are.
    drawing = openmoji.compose(concept, ground, 0.8, (0.5, 0.5), 4 * WORK_SIZE)
    view = object_views(image_io.resize_and_crop(drawing, WORK_SIZE), (0.0,), (1.0,))
    if view is None:
        raise ValueError(f"{concept} does not stand out from {ground}")
    return view
