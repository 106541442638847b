"""Whether two arms differ: paired differences, an interval, and a word for it.

All arms draw the same prompts with the same seeds. A prompt's pictures are alike, so
the unit is the prompt: its figures are averaged over pictures and training seeds, and
Student's interval is over prompts. It does not hold the luck of other training seeds,
of which there are few; the figures of each seed stand beside it.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from imagen_jax.evaluation.intervals import mean_interval


def compare(
    first: Float[np.ndarray, "seeds prompts k"],
    other: Float[np.ndarray, "seeds prompts k"],
) -> dict[str, Any]:
    """Returns how much more the first arm has than the other, and what is seen of it.

    Returns:
      "difference"; "low" and "high", its 95 % interval; "by_seed"; "seen": "more" or
      "less" where the interval is beyond 0 and all seeds agree, else "not seen".
    """
    difference = first - other
    by_seed = difference.mean(axis=(1, 2))
    low, high = mean_interval(difference.mean(axis=(0, 2)))
    seen = "not seen"
    if low > 0 and (by_seed > 0).all():
        seen = "more"
    elif high < 0 and (by_seed < 0).all():
        seen = "less"
    return {
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "by_seed": by_seed.tolist(),
        "seen": seen,
    }
