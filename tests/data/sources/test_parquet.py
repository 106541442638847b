import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_jax.data.indexing.checks import Candidate
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.parquet import scan_parquet
from imagen_jax.errors import UserError
from tests.data.sources.archives import png

PICTURES = [png(i, 40, 8 + i) for i in range(20)]
CAPTIONS = [f"picture {i}" for i in range(20)]


def img2dataset():
    return pa.table({"url": ["x"] * 20, "jpg": PICTURES, "caption": CAPTIONS})


def hugging_face():
    image = [{"bytes": data, "path": None} for data in PICTURES]
    return pa.table({"image": image, "text": CAPTIONS})


def scan(path, **options):
    """Returns (row -> (caption, picture, whether it has a place), reason by row)."""
    kept, dropped = {}, {}
    with open(path, "rb") as file:
        for found in scan_parquet(str(path), IndexOptions(**options)):
            if not isinstance(found, Candidate):
                dropped[found.name] = found.reason
                continue
            data = found.read(found.length)
            if found.offset is not None:
                file.seek(found.offset)
                assert file.read(found.length) == data
            kept[found.name] = (found.caption, data, found.offset is not None)
    return kept, dropped


@pytest.mark.parametrize("table", [img2dataset(), hugging_face()], ids=["i2d", "hf"])
@pytest.mark.parametrize(
    ("settings", "has_place"),
    [
        ({"compression": "none"}, True),
        ({"compression": "none", "use_dictionary": False}, True),
        ({"compression": "none", "data_page_version": "2.0"}, True),
        ({"compression": "snappy"}, False),
        ({"compression": "zstd"}, False),
    ],
    ids=["dictionary", "plain", "v2", "snappy", "zstd"],
)
def test_both_layouts_in_any_storage(tmp_path, table, settings, has_place):
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=7, **settings)
    kept, dropped = scan(path)
    assert kept == {
        f"row {i}": (CAPTIONS[i], PICTURES[i], has_place) for i in range(20)
    }
    assert dropped == {}


def test_a_picture_that_occurs_twice_has_a_place(tmp_path):
    # The dictionary holds it once, before where the search has got to. (Statistics
    # would hold it too.)
    table = pa.table({"png": [PICTURES[i] for i in (0, 1, 0)], "text": ["a"] * 3})
    settings = {"compression": "none", "write_statistics": False}
    pq.write_table(table, tmp_path / "a.parquet", **settings)
    kept, _ = scan(tmp_path / "a.parquet")
    assert [kept[f"row {i}"][1:] for i in range(3)] == [
        (PICTURES[i], True) for i in (0, 1, 0)
    ]


def test_an_encoding_that_cuts_values_is_copied(tmp_path):
    pq.write_table(
        img2dataset(),
        tmp_path / "a.parquet",
        compression="none",
        use_dictionary=False,
        column_encoding={"jpg": "DELTA_BYTE_ARRAY"},
    )
    kept, dropped = scan(tmp_path / "a.parquet")
    assert [data for _, data, _ in kept.values()] == PICTURES
    assert {has_place for *_, has_place in [*kept.values()][1:]} == {False}
    assert dropped == {}


def test_what_is_left_out_has_a_reason(tmp_path):
    invalid = pa.array([b"a", b"\xff", b"", b"b", b"c"]).view(pa.string())
    captions = pa.chunked_array([invalid, pa.array([None, "d"])])
    images = pa.array([PICTURES[0]] * 3 + [None, b""] + [PICTURES[0]] * 2)
    table = pa.table({"jpg": images, "caption": captions})
    pq.write_table(table, tmp_path / "a.parquet")
    kept, dropped = scan(tmp_path / "a.parquet")
    assert [*kept] == ["row 0", "row 6"]
    assert dropped == {
        "row 1": "caption is not UTF-8",
        "row 2": "no caption",
        "row 3": "no picture",
        "row 4": "no picture",
        "row 5": "no caption",
    }


def test_lists_of_captions(tmp_path):
    lists = [[f"{i} {j}" for j in range(5)] for i in range(18)] + [[], None]
    table = pa.table({"jpg": PICTURES, "captions": pa.array(lists)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    kept, dropped = scan(tmp_path / "a.parquet")
    chosen = [caption.split() for caption, *_ in kept.values()]
    assert [int(i) for i, _ in chosen] == [*range(18)]
    assert len({j for _, j in chosen}) >= 4  # from all places of the lists
    assert dropped == {"row 18": "no caption", "row 19": "no caption"}
    assert scan(tmp_path / "a.parquet")[0] == kept


def test_columns_by_name(tmp_path):
    table = pa.table({"jpg": PICTURES, "a": PICTURES[::-1], "caption": CAPTIONS})
    table = table.append_column("b", pa.array(CAPTIONS[::-1]))
    pq.write_table(table, tmp_path / "a.parquet")
    kept, _ = scan(tmp_path / "a.parquet", image_column="a", caption_column="b")
    assert kept["row 3"][:2] == (CAPTIONS[16], PICTURES[16])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "png"}, r"no image column 'png'.*are 'jpg'.*--image_column"),
        ({"caption_column": "jpg"}, r"no caption column 'jpg'.*are 'url', 'caption'"),
    ],
)
def test_a_column_that_is_not_there(tmp_path, options, message):
    pq.write_table(img2dataset(), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        scan(tmp_path / "a.parquet", **options)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "page"])
def test_a_damaged_file_is_counted(tmp_path, damage):
    path = tmp_path / "a.parquet"
    pq.write_table(img2dataset(), path, row_group_size=10, use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(1)
    data = path.read_bytes()
    start = group.column(1).data_page_offset
    path.write_bytes(
        {
            "empty": b"",
            "text": b"no Parquet file",
            "cut": data[: len(data) // 2],
            "page": data[:start] + b"\xff" * 40 + data[start + 40 :],
        }[damage]
    )
    kept, dropped = scan(path)
    assert len(kept) == (10 if damage == "page" else 0)
    assert dropped == {"": "archive is damaged"}
