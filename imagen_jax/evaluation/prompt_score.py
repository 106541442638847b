"""Whether pictures show what their prompts ask for: object and ground, by template.

Beside a score stand its controls: the same pictures against other prompts (a scorer
that is easily pleased would show there) and real pictures (a scorer that is blind
would show there).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from imagen_jax.data.sources import openmoji
from imagen_jax.evaluation.emoji_score import EmojiScorer
from imagen_jax.evaluation.samples import Sample, read_pictures

PICTURES_PER_PAIR = 15  # of a full run; also how many control pictures a pair gets
CONTROL_RESOLUTION = 256


class Score(NamedTuple):
    """What pictures were meant to show and what the scorer found in them.

    Concepts are indices of the scorer's; `found` is -1 where there was no object.
    """

    wanted: Int[np.ndarray, " b"]
    found: Int[np.ndarray, " b"]
    ground_right: Bool[np.ndarray, " b"]

    @property
    def object_right(self) -> Bool[np.ndarray, " b"]:
        """Where the right concept was found."""
        return self.wanted == self.found


def score_samples(scorer: EmojiScorer, samples: Sequence[Sample]) -> Score:
    """Returns the score of one stage's pictures, empty for no samples."""
    if not samples:
        none = np.zeros(0, np.int64)
        return Score(none, none, none.astype(bool))
    pictures = read_pictures(samples)
    return score_pictures(scorer, pictures, [sample.pair for sample in samples])


def score_controls(scorer: EmojiScorer, pairs: Sequence[openmoji.Pair]) -> Score:
    """Returns the score of real pictures that no run trains on or samples."""
    pairs = [pair for pair in pairs for _ in range(PICTURES_PER_PAIR)]
    pictures = [
        openmoji.compose_variant(
            pair, index % PICTURES_PER_PAIR, "control", CONTROL_RESOLUTION
        )
        for index, pair in enumerate(pairs)
    ]
    return score_pictures(scorer, np.stack(pictures), pairs)


def score_pictures(
    scorer: EmojiScorer,
    pictures: UInt8[np.ndarray, "b s s 3"],
    pairs: Sequence[openmoji.Pair],
) -> Score:
    """Returns the score of pictures that should show these pairs."""
    ground, found = scorer.score(pictures)
    wanted = np.array([scorer.concepts.index(pair.concept) for pair in pairs])
    wanted_ground = np.array([scorer.grounds.index(pair.ground) for pair in pairs])
    return Score(wanted, found, ground == wanted_ground)


def shuffled_accuracies(score: Score) -> Float[np.ndarray, " k"]:
    """Returns the object accuracy under each derangement of the concepts.

    Derangement k asks of each picture the concept k places further on among those
    that were asked for, so no picture keeps its own. Empty for fewer than 2 concepts.
    """
    asked, place = np.unique(score.wanted, return_inverse=True)
    shares = [
        np.mean(asked[(place + k) % len(asked)] == score.found)
        for k in range(1, len(asked))
    ]
    return np.array(shares, np.float64)


def summarise_concepts(
    concepts: Sequence[str], base: Score, final: Score
) -> dict[str, dict[str, Any]]:
    """Returns, for each concept asked for, its accuracies and what was found most."""
    summary = {}
    for concept in np.unique(np.concatenate([base.wanted, final.wanted])):
        at_base, at_final = base.wanted == concept, final.wanted == concept
        answers = Counter(final.found[at_final].tolist()).most_common(1)
        found = answers[0][0] if answers else None
        summary[concepts[concept]] = {
            "n": int(at_final.sum()),
            "ground_accuracy": _share(final.ground_right[at_final]),
            "object_accuracy": _share(final.object_right[at_final]),
            "object_accuracy_64": _share(base.object_right[at_base]),
            "found_most": None
            if found is None
            else ("nothing" if found < 0 else concepts[found]),
        }
    return summary


def _share(right: Bool[np.ndarray, " b"]) -> float | None:
    return round(float(right.mean()), 4) if len(right) else None
