import itertools
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.data.captions import read_captions
from imagen_jax.errors import UserError

BOM = b"\xef\xbb\xbf"


def read(tmp_path, name, contents, column=None):
    if isinstance(contents, str):
        contents = contents.encode()
    (tmp_path / name).write_bytes(contents)
    return list(read_captions(tmp_path / name, column))


@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_caption_a_line(tmp_path, bom):
    contents = bom + ' a fox \r\n\n"the", café\u2028x\n\ufefflast'.encode()
    expected = [" a fox ", "", '"the", café\u2028x', "\ufefflast"]
    assert read(tmp_path, "a.txt", contents) == expected
    assert read(tmp_path, "captions", contents) == expected
    assert read(tmp_path, "A.TXT", contents + b"\n") == expected


@pytest.mark.parametrize("bom", [b"", BOM])
@pytest.mark.parametrize(("name", "comma"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_column_of_a_table(tmp_path, bom, name, comma):
    rows = [
        ("image", "caption", "other"),
        ("1.png", '"a ""red"" fox{c} on\n a hill"', "x"),
        ("2.png", "", "y"),
        ("3.png", ' it\'s "quoted" ', '"z"'),
    ]
    text = "\r\n\r\n".join(comma.join(row) for row in rows).replace("{c}", comma)
    contents = bom + text.encode()
    expected = [f'a "red" fox{comma} on\n a hill', "", ' it\'s "quoted" ']
    assert read(tmp_path, name, contents) == expected
    assert read(tmp_path, name, contents, "other") == ["x", "y", "z"]
    assert read(tmp_path, name, contents, "image")[2] == "3.png"


@pytest.mark.parametrize("bom", [b"", BOM])
def test_a_field_of_json_lines(tmp_path, bom):
    lines = [
        json.dumps({"caption": "a \u2028 f\u00f6x\n\U0001f98a", "text": "b", "n": 1}),
        "",
        '{"text": "\\ud83e\\udd8a", "caption": ""}',
        json.dumps({"caption": "c", "text": "d"}, ensure_ascii=False) + "\r",
    ]
    contents = bom + "\n".join(lines).encode()
    expected = ["a \u2028 f\u00f6x\n\U0001f98a", "", "c"]
    assert read(tmp_path, "a.jsonl", contents) == expected
    assert read(tmp_path, "a.jsonl", contents, "text") == ["b", "\U0001f98a", "d"]


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_json_lines_round_trip(tmp_path_factory, captions):
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    lines = [json.dumps({"caption": caption}) for caption in captions]
    path.write_text("\n".join(lines))
    assert list(read_captions(path)) == captions


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_file_has_no_captions(tmp_path, name):
    assert read(tmp_path, name, b"") == []


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_reads_lazily_in_constant_memory(tmp_path, suffix):
    line = {".jsonl": json.dumps({"caption": "a" * 90})}.get(suffix, "a" * 90)
    path = tmp_path / f"captions{suffix}"
    header = b"caption\n" if suffix == ".csv" else b""
    num_lines = 100_000  # 9 MB
    path.write_bytes(header + (line + "\n").encode() * num_lines + b"\xff\n")
    captions = read_captions(path)
    assert next(captions) == "a" * 90
    tracemalloc.start()
    assert sum(1 for _ in itertools.islice(captions, num_lines - 1)) == num_lines - 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
    with pytest.raises(UserError, match=f"line {num_lines + 1 + bool(header)} is not "):
        next(captions)


TABLE = "image,caption\n"


@pytest.mark.parametrize(
    ("name", "contents", "column", "message"),
    [
        ("a.parquet", b"", None, r"ends in \.parquet; give a \.txt, \.csv, \.tsv or"),
        ("a.txt", b"fox", "text", "has no columns, so no column 'text'; leave"),
        ("a.txt", b"fox\ncaf\xe9\n", None, "line 2 is not UTF-8"),
        ("a.txt", "fox".encode("utf-16"), None, "line 1 is not UTF-8"),
        ("a.csv", TABLE.encode() + b"1,\xff\n", None, "line 2 is not UTF-8"),
        ("a.jsonl", b'\n\n{"caption": "\xff"}', None, "line 3 is not UTF-8"),
        ("a.csv", TABLE, "text", "no column 'text'; .* names 'image', 'caption', so"),
        ("a.csv", "caption,caption\n", None, "2 columns 'caption'"),
        ("a.csv", b"", None, "no column 'caption'; its first line names none"),
        ("a.tsv", "image,caption\n", None, "names 'image,caption', so choose"),
        ("a.csv", TABLE + "1,a,b\n", None, "line 2 has 3 columns, the first line 2"),
        ("a.csv", TABLE + "1,a\n\n2\n", None, "line 4 has 1 columns"),
        ("a.csv", TABLE + '1,"a" fox\n', None, "line 2 is malformed"),
        ("a.csv", TABLE + '1,"a fox\n2,b\n', None, "line 3 is malformed"),
        ("a.csv", TABLE + "1," + "a" * 140_000, None, "line 2 is malformed"),
        ("a.jsonl", '{"caption": "a"}\n{"caption"\n', None, "line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, None, "line 1 is not JSON"),
        ("a.jsonl", '["a"]\n', None, 'line 1 is not a JSON object; .* {"caption": "a'),
        ("a.jsonl", '{"text": "a", "n": 1}', None, "no field 'caption'; it has 'text'"),
        ("a.jsonl", "{}", "text", "no field 'text'; it has none"),
        ("a.jsonl", '{"caption": null}', None, "has null in field 'caption'; give a"),
        ("a.jsonl", '{"caption": ["a"]}', None, "has .* in field 'caption'; give a s"),
        ("a.jsonl", r'{"caption": "fox\ud83e"}', None, "line 1 has half a character"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, name, contents, column, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, name, contents, column)
    assert "\n" not in str(error.value)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_a_missing_file_is_named(tmp_path, suffix):
    path = tmp_path / f"nowhere{suffix}"
    with pytest.raises(UserError, match=rf"nowhere\{suffix} cannot be read: No such"):
        next(read_captions(path))
