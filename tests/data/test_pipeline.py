import logging

import ml_dtypes
import numpy as np
import pytest

from imagen_jax.data.images import encode_png
from imagen_jax.data.pipeline import BatchMaker, iterate, rows_of_batch
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings


class NumberedSource:
    """Record i is a flat picture of level i with the caption "i"."""

    def __init__(self, num, bad=(), resolution=8):
        self.num_reads = 0
        self._num = num
        self._bad = bad
        self._resolution = resolution

    def __len__(self):
        return self._num

    def __getitem__(self, index):
        self.num_reads += 1
        side = self._resolution
        image = encode_png(np.full((side, side, 3), index, np.uint8))
        if index in self._bad:
            image = image[: len(image) // 2]  # a truncated PNG
        return Record(image, str(index), f"numbered/{index}")


def lookup(captions):
    """Embeds caption "i" as the number i (bfloat16 is exact up to 256)."""
    numbers = np.array([float(c) for c in captions], ml_dtypes.bfloat16)
    return TextEmbeddings(numbers[:, None, None], np.ones((len(captions), 1), bool))


def make(source, **changes):
    settings = {"resolution": 4, "batch_size": 6, "seed": 3, "max_bad_share": 1.0}
    return BatchMaker(source, lookup, **(settings | changes))


def rows_in(batch):
    """Returns which records a batch holds; picture and text must agree."""
    rows = batch.image[:, 0, 0, 0].astype(int).tolist()
    assert batch.text.embed[:, 0, 0].astype(int).tolist() == rows
    return rows


def rows_of_run(num_records, batch_size, seed, num_batches):
    batches = [
        rows_of_batch(num_records, batch_size, seed, k) for k in range(num_batches)
    ]
    return np.concatenate(batches).tolist()


@pytest.mark.parametrize(("num", "size"), [(12, 4), (10, 4), (3, 8), (1, 5), (7, 7)])
def test_every_record_is_read_once_an_epoch(num, size):
    # 4 epochs: their borders lie inside batches wherever size does not divide num.
    rows = rows_of_run(num, size, seed=1, num_batches=-(-4 * num // size))
    for epoch in range(4):
        assert sorted(rows[epoch * num : (epoch + 1) * num]) == list(range(num))


def test_epochs_and_seeds_differ_in_order():
    rows = rows_of_run(100, 50, seed=1, num_batches=4)
    assert rows[:100] != rows[100:]
    assert rows[:100] != rows_of_run(100, 50, seed=2, num_batches=2)
    assert rows[:100] != list(range(100))


def test_the_order_is_the_same_on_every_machine():
    # A run that is resumed elsewhere must go on with the same records.
    assert rows_of_batch(10, 5, 0, 3).tolist() == [7, 9, 3, 2, 0]


def test_a_batch_is_a_function_of_seed_and_number():
    straight = make(NumberedSource(10))
    in_order = [rows_in(straight.batch(k)) for k in range(5)]
    fresh = make(NumberedSource(10))
    assert [rows_in(fresh.batch(k)) for k in (4, 0, 4, 2)] == [
        in_order[k] for k in (4, 0, 4, 2)
    ]
    assert rows_in(make(NumberedSource(10), seed=4).batch(0)) != in_order[0]


def test_a_batch_is_uint8_and_the_rows_of_batch():
    batch = make(NumberedSource(10)).batch(2)
    assert batch.image.dtype == np.uint8
    assert batch.image.shape == (6, 4, 4, 3)
    assert batch.text.embed.dtype == ml_dtypes.bfloat16
    assert batch.text.mask.shape == (6, 1)
    assert batch.low_res is None
    assert rows_in(batch) == rows_of_batch(10, 6, 3, 2).tolist()


@pytest.mark.parametrize("count", [2, 3])
def test_the_shards_of_a_batch_are_the_batch(count):
    whole = rows_in(make(NumberedSource(10)).batch(1))
    parts = [
        rows_in(make(NumberedSource(10), shard=((index,), count)).batch(1))
        for index in range(count)
    ]
    assert [row for part in parts for row in part] == whole


def test_a_cached_record_is_read_once():
    source = NumberedSource(10)
    cached, plain = make(source, cache=True), make(NumberedSource(10))
    for k in range(6):  # 36 examples
        assert rows_in(cached.batch(k)) == rows_in(plain.batch(k))
    assert source.num_reads == 10


@pytest.mark.parametrize("cache", [False, True])
def test_a_bad_record_is_replaced_at_its_position(cache, caplog):
    bad = {2, 5, 6, 9}  # 6 follows 5, and after 9 comes 0
    good = make(NumberedSource(10))
    maker = make(NumberedSource(10, bad), cache=cache)
    substitute = {2: 3, 5: 7, 6: 7, 9: 0}
    with caplog.at_level(logging.WARNING):
        for k in range(5):
            expected = [substitute.get(row, row) for row in rows_in(good.batch(k))]
            assert rows_in(maker.batch(k)) == expected
    assert maker.bad == {"corrupt picture": 4}
    for row in bad:  # named, once however often it was met
        assert caplog.text.count(f"numbered/{row},") == 1


def test_hosts_agree_on_the_substitute():
    whole = rows_in(make(NumberedSource(10, {1, 4})).batch(0))
    halves = [
        rows_in(make(NumberedSource(10, {1, 4}), shard=((i,), 2)).batch(0))
        for i in (0, 1)
    ]
    assert halves[0] + halves[1] == whole


def test_a_record_that_the_source_refuses_is_bad_too(caplog):
    class Refusing(NumberedSource):
        def __getitem__(self, index):
            if index == 1:
                raise BadRecordError("caption is not UTF-8")
            return super().__getitem__(index)

    maker = make(Refusing(4), batch_size=4)
    assert sorted(rows_in(maker.batch(0))) == [0, 2, 2, 3]
    assert maker.bad == {"caption is not UTF-8": 1}
    assert "record 1," in caplog.text


def test_pictures_below_the_resolution_are_bad():
    maker = make(NumberedSource(10, resolution=3))
    with pytest.raises(UserError, match="picture too small: 10"):
        maker.batch(0)


@pytest.mark.parametrize(("share", "fatal"), [(0.29, True), (0.30, False)])
def test_the_share_of_bad_records_is_fatal_only_when_exceeded(share, fatal):
    maker = make(NumberedSource(10, {0, 1, 2}), batch_size=10, max_bad_share=share)
    if not fatal:
        assert len(rows_in(maker.batch(0))) == 10
        return
    message = r"3 of 10 .*corrupt picture: 3.*max_bad_share = 0.29"
    with pytest.raises(UserError, match=message):
        maker.batch(0)


def test_an_early_bad_record_is_not_fatal():
    # The first batch reads 2 of 10 records and half of them are bad.
    bad = {int(rows_of_batch(10, 2, 3, 0)[0])}
    maker = make(NumberedSource(10, bad), batch_size=2, max_bad_share=0.1)
    for k in range(10):
        maker.batch(k)
    assert maker.bad.total() == 1


def test_a_source_without_a_good_record_ends():
    maker = make(NumberedSource(5, set(range(5))))
    with pytest.raises(UserError, match="corrupt picture: 5"):
        maker.batch(0)


@pytest.mark.parametrize(
    ("num", "changes", "message"),
    [
        (0, {}, "no record"),
        (9, {"shard": ((0,), 4)}, "multiple of the 4 parts"),
        (9, {"shard": ((0, 2), 2)}, "each part < count"),
    ],
)
def test_settings_that_cannot_work_are_refused(num, changes, message):
    with pytest.raises(UserError, match=message):
        make(NumberedSource(num), **changes)


def test_iterate_is_the_batches_in_order_from_any_start():
    maker = make(NumberedSource(10))
    plain = [rows_in(maker.batch(k)) for k in range(7)]
    ahead = iterate(make(NumberedSource(10), cache=True), 3, 7, num_threads=3)
    assert [rows_in(batch) for batch in ahead] == plain[3:]


def test_iterate_passes_on_what_a_thread_raises():
    batches = iterate(make(NumberedSource(5, set(range(5)))), 0, 2)
    with pytest.raises(UserError, match="corrupt picture: 5"):
        next(batches)
