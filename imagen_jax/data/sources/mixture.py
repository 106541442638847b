"""Several sources as one, in given proportions.

The mixture is itself a list of records: source s takes a block of n_s places, one after
another, in which its records repeat in order. So record i of the mixture is a pure
function of i, and the pipeline's permutation of all places does the mixing: over an
epoch the shares are exact, in a batch they vary as in any shuffle.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from imagen_jax.data.records import Record, Source
from imagen_jax.errors import UserError

_MAX_RECORDS = 2**32  # their permutation takes 8 bytes each


class MixtureSource:
    """A weighted mixture; implements `Source`.

    An epoch of it is as short as it can be with every record of every source in it at
    least once: n_s is the share of s times the largest of size / share, rounded up.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] | None):
        """Makes the mixture.

        Args:
          sources: at least one, none empty.
          weights: above 0, of any sum; None takes each record once.

        Raises:
          UserError: if a weight or a source cannot be used.
        """
        sizes = [len(source) for source in sources]
        if 0 in sizes:
            raise UserError(
                f"source {sizes.index(0) + 1} of the mixture holds no record; leave "
                "it out"
            )
        if weights is None:
            counts = sizes
        else:
            for weight in weights:
                if not 0 < weight < math.inf:
                    raise UserError(
                        f"a weight of the mixture is {weight}; give numbers above 0"
                    )
            counts = _counts(sizes, weights)
        if sum(counts) > _MAX_RECORDS:
            raise UserError(
                f"an epoch of the mixture has {sum(counts)} records, at most "
                f"{_MAX_RECORDS} are allowed; give weights nearer to the sizes "
                f"{', '.join(map(str, sizes))}"
            )
        self._sources = list(sources)
        self._sizes = sizes
        self._ends = list(itertools.accumulate(counts))

    def __len__(self) -> int:
        """Returns the number of records of an epoch, repeated ones included."""
        return self._ends[-1]

    def place(self, index: int) -> tuple[int, int]:
        """Returns (number of the source, record of it) that record `index` is."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect.bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return number, (index - start) % self._sizes[number]

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        number, record = self.place(index)
        return self._sources[number][record]


def _counts(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    shares = [Fraction(str(weight)) for weight in weights]  # exactly as written
    scale = max(size / share for size, share in zip(sizes, shares, strict=True))
    return [math.ceil(scale * share) for share in shares]
