"""The quickstart's held-out captions in words that its training never saw.

wordings.csv holds two for each: a synonym or description of the thing with "against a
COLOUR backdrop", and another with "COLOUR behind it". Some are hard for a person too.
"""

import csv
from collections.abc import Sequence
from importlib import resources

from imagen_jax.data.sources.openmoji import Pair


def read_wordings(pairs: Sequence[Pair]) -> list[tuple[str, Pair]]:
    """Returns (wording, pair) of each wording of the captions, in the pairs' order."""
    text = resources.files("imagen_jax.ablations").joinpath("wordings.csv")
    rows = list(csv.DictReader(text.read_text("utf-8").splitlines()))
    return [
        (row["wording"], pair)
        for pair in pairs
        for row in rows
        if row["caption"] == pair.caption
    ]
