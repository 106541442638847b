import pytest

from imagen_jax.data.sources.tfrecords import TfRecords
from imagen_jax.errors import UserError


def write(path, records):
    """Writes the frames, with CRCs that nothing reads."""
    path.write_bytes(
        b"".join(len(r).to_bytes(8, "little") + b"...." + r + b"...." for r in records)
    )
    return str(path)


def test_parts_of_files_one_after_another(tmp_path):
    a = write(tmp_path / "a", [b"0", b"", b"22", b"3" * 5000])
    b = write(tmp_path / "b", [b"44", b"5"])
    records = TfRecords([(a, 1, 3), (b, 0, 0), (b, 0, 1)])
    assert len(records) == 4
    assert [records[i] for i in range(4)] == [b"", b"22", b"3" * 5000, b"44"]
    assert len(TfRecords([])) == 0


@pytest.mark.parametrize("cut", [1, 10, 13])
def test_a_file_that_is_cut(tmp_path, cut):
    path = write(tmp_path / "a", [b"one", b"two"])
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[:-cut])
    with pytest.raises(UserError, match="no whole TFRecord file: record 1 ends behind"):
        TfRecords([(path, 0, 2)])


def test_fewer_records_than_promised(tmp_path):
    path = write(tmp_path / "a", [b"one", b"two"])
    with pytest.raises(UserError, match="a has 2 records, its data set says 4 or more"):
        TfRecords([(path, 1, 3)])


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"a cannot be read .*set again"):
        TfRecords([(str(tmp_path / "a"), 0, 1)])
