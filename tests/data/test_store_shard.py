import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.data.store_shard import (
    create_records,
    find_record,
    load_index,
    open_records,
    save_index,
)

KEYS = st.binary(min_size=16, max_size=16)


@given(st.lists(KEYS, unique=True), KEYS)
def test_every_key_is_found_and_no_other(tmp_path_factory, keys, other):
    # Keys that end in zero bytes are where a fixed-length string could go wrong.
    keys = list(dict.fromkeys([*keys, *(key[:-2] + b"\0\0" for key in keys)]))
    path = tmp_path_factory.mktemp("index") / "x.index.npy"
    save_index(path, keys)
    index = load_index(path)
    assert [find_record(index, key) for key in keys] == list(range(len(keys)))
    if other not in keys:
        assert find_record(index, other) is None


def test_an_index_is_memory_mapped_and_has_20_bytes_a_caption(tmp_path):
    keys = [i.to_bytes(16, "little") for i in range(1000)]
    save_index(tmp_path / "x.index.npy", keys)
    index = load_index(tmp_path / "x.index.npy")
    assert isinstance(index, np.memmap)
    assert index.nbytes == 20 * 1000


def test_another_array_is_no_index(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    with pytest.raises(ValueError, match="an index of int64"):
        load_index(tmp_path / "x.npy")


def test_records_round_trip(tmp_path):
    writer = create_records(tmp_path / "x")
    for i in range(10):
        writer.write(bytes([i] * i))
    writer.close()
    reader = open_records(tmp_path / "x")
    assert reader.num_records() == 10
    assert reader.read([7, 2]) == [bytes([7] * 7), bytes([2] * 2)]


def test_missing_records_are_not_taken_for_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_records(tmp_path / "x")
