import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.data.pipeline import rows_of_batch
from imagen_jax.data.sources.mixture import MixtureSource
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.errors import UserError


def mixture(sizes, weights):
    return MixtureSource([SyntheticSource(size, 8) for size in sizes], weights)


def places(source):
    return [source.place(i) for i in range(len(source))]


def test_every_place_by_hand():
    # 3 : 1 over sizes 2 and 3: the second needs 3 places for each of its records to
    # occur, so the first gets 9, in which its 2 records repeat.
    found = places(mixture([2, 3], [0.75, 0.25]))
    assert found == [(0, i % 2) for i in range(9)] + [(1, i) for i in range(3)]


def test_counts_are_rounded_up():
    # 10 / 0.7 = 14.3 places to a weight of 1, and 0.3 of these are 4.3.
    assert len(mixture([3, 10], [0.3, 0.7])) == 5 + 10


def test_without_weights_each_record_once():
    found = places(mixture([2, 3], None))
    assert found == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.floats(0.05, 1).map(lambda x: round(x, 3))),
        min_size=1,
        max_size=4,
    )
)
def test_shares_are_those_of_the_weights_and_no_record_is_missing(parts):
    sizes, weights = zip(*parts, strict=True)
    source = mixture(sizes, weights)
    found = places(source)
    counts = collections.Counter(number for number, _ in found)
    for number, (size, weight) in enumerate(parts):
        records = {record for other, record in found if other == number}
        assert records == set(range(size))
        exact = weight / weights[0] * counts[0]
        # Each count is rounded up by less than 1.
        assert abs(counts[number] - exact) < 1 + weight / weights[0] + 1e-6
    assert any(counts[number] == size for number, size in enumerate(sizes))


def test_a_record_is_the_source_s():
    a, b = SyntheticSource(3, 8, seed=1), SyntheticSource(4, 8, seed=2)
    source = MixtureSource([a, b], [1.0, 2.0])
    assert [source[i] for i in range(len(source))] == [
        (a, b)[number][record] for number, record in places(source)
    ]


def test_batches_have_the_shares():
    source = mixture([50, 1000], [0.8, 0.2])
    rows = rows_of_batch(len(source), 500, seed=0, k=3)
    share = np.mean([source.place(int(row))[0] == 0 for row in rows])
    assert abs(share - 0.8) < 0.07  # 4 standard deviations


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ([2, 0], None, "source 2 of the mixture holds no record"),
        ([2, 2], [1.0, 0.0], "a weight of the mixture is 0.0; give numbers above 0"),
        ([2, 2], [1.0, float("nan")], "is nan; give"),
        ([2, 2], [float("inf"), 1.0], "is inf; give"),
        ([2, 10**6], [1.0, 1e-6], "has 1000001000000 records, at most 4294967296"),
    ],
)
def test_what_cannot_be_mixed(sizes, weights, message):
    with pytest.raises(UserError, match=message):
        mixture(sizes, weights)


def test_an_index_beyond_the_end():
    with pytest.raises(IndexError, match="record 5 of 5"):
        mixture([2, 3], None)[5]
