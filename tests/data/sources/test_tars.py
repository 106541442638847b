import json
import tarfile

import pytest

from imagen_jax.data.indexing.checks import Candidate
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.tars import scan_tar
from tests.data.sources.archives import numbered, png, write_tar


def scan(path, options=IndexOptions()):  # noqa: B008
    """Returns (name -> (caption, bytes at the noted place), reason by dropped name)."""
    kept, dropped = {}, {}
    with open(path, "rb") as file:
        for found in scan_tar(str(path), options):
            if isinstance(found, Candidate):
                file.seek(found.offset)
                kept[found.name] = (found.caption, file.read(found.length))
                assert found.read(5) == kept[found.name][1][:5]
            else:
                dropped[found.name] = found.reason
    return kept, dropped


def test_the_place_of_a_picture_holds_its_bytes(tmp_path):
    path = write_tar(tmp_path / "a.tar", numbered(0, 4))
    kept, dropped = scan(path)
    assert kept == {f"{i:05}": (f"picture {i}", png(i)) for i in range(4)}
    assert dropped == {}


def test_members_of_a_record_may_be_apart_and_in_any_order(tmp_path):
    members = [
        ("b/1.txt", b"one"),
        ("a.b/2.jpg", png(2)),
        ("b/1.PNG", png(1)),
        ("b", b"another file"),
        ("a.b/2.cls", b"7"),
        ("a.b/2.txt", "\ufeffzw\u00f6lf\r\n".encode()),
    ]
    kept, dropped = scan(write_tar(tmp_path / "a.tar", members))
    assert kept == {"b/1": ("one", png(1)), "a.b/2": ("zw\u00f6lf", png(2))}
    assert dropped == {}


def test_long_names_and_dots_in_names(tmp_path):
    name = "x" * 150 + "/picture.of.1999"
    members = [(f"{name}.jpg", png(1)), (f"{name}.txt", b"old")]
    assert scan(write_tar(tmp_path / "a.tar", members))[0] == {name: ("old", png(1))}


def test_captions_in_json(tmp_path):
    def member(name, fields):
        return [(f"{name}.png", png(1)), (f"{name}.json", json.dumps(fields).encode())]

    members = [
        *member("caption", {"caption": "a"}),
        *member("text", {"caption": None, "text": "b"}),
        *member("list", {"caption": ["c", "c"]}),
        *member("alt", {"alt": "d"}),
        *member("number", {"caption": 3}),
        *member("half", {"caption": "\ud800"}),
        ("broken.png", png(1)),
        ("broken.json", b'{"caption": '),
        ("array.png", png(1)),
        ("array.json", b"[]"),
        *member("both", {"caption": "the .txt is taken"}),
        ("both.txt", b"e"),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    kept, dropped = scan(path)
    captions = {name: caption for name, (caption, _) in kept.items()}
    assert captions == {"caption": "a", "text": "b", "list": "c", "both": "e"}
    assert dropped == {
        "alt": "no caption",
        "number": "caption is malformed",
        "half": "caption is not UTF-8",
        "broken": "caption is malformed",
        "array": "caption is malformed",
    }
    kept, _ = scan(path, IndexOptions(caption_column="alt"))
    assert kept["alt"][0] == "d"


def header(name, kind=tarfile.REGTYPE, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


@pytest.mark.parametrize(
    ("members", "name", "reason"),
    [
        ([("x.png", png(1))], "x", "no caption"),
        ([("x.png", png(1)), ("x.txt", b" \n")], "x", "no caption"),
        ([("x.png", png(1)), ("x.txt", b"\xff\xfe")], "x", "caption is not UTF-8"),
        ([("x.png", png(1)), ("x.txt", b"a" * 2_000_000)], "x", "caption too long"),
        ([("x.txt", b"a")], "x", "no picture"),
        ([("/x.png", png(1))], "/x.png", "name leaves the archive"),
        ([("a/../../x.txt", b"")], "a/../../x.txt", "name leaves the archive"),
        ([(header("x.png", tarfile.SYMTYPE, "/a"), b"")], "x.png", "not a plain file"),
        ([(header("x.txt", tarfile.LNKTYPE, "b"), b"")], "x.txt", "not a plain file"),
        ([(header("x.jpg", tarfile.FIFOTYPE), b"")], "x.jpg", "not a plain file"),
    ],
)
def test_what_is_left_out_has_a_reason(tmp_path, members, name, reason):
    members = [*numbered(0, 1), *members, *numbered(1, 2)]
    kept, dropped = scan(write_tar(tmp_path / "a.tar", members))
    assert [*kept] == ["00000", "00001"]
    assert dropped == {name: reason}


def test_of_two_pictures_of_a_name_the_first_is_taken(tmp_path):
    members = [
        ("x.txt", b"a"),
        ("x.png", png(1)),
        ("x.png", png(2)),
        ("x.jpg", png(3)),
    ]
    kept, dropped = scan(write_tar(tmp_path / "a.tar", members))
    assert kept == {"x": ("a", png(1))}
    assert dropped == {
        "x.png": "name occurs twice",
        "x.jpg": "second picture of a record",
    }


def damaged(data, place):
    match place:
        case "cut in a picture":
            return data[: 3 * 2 * 1024 + 512 + 20]
        case "cut in a header":
            return data[: 3 * 2 * 1024 + 100]
        case "checksum":
            return data[:6144] + b"#" + data[6145:]
        case "text":
            return b"no tar at all, but long enough for a header" * 20
        case "empty":
            return b""
        case "joined":
            return data + data
    raise AssertionError(place)


@pytest.mark.parametrize(
    ("place", "num_kept"),
    [
        ("cut in a picture", 3),
        ("cut in a header", 3),
        ("checksum", 3),
        ("text", 0),
        ("empty", 0),
        ("joined", 5),
    ],
)
def test_a_damaged_tar_gives_what_is_before_the_damage(tmp_path, place, num_kept):
    path = tmp_path / "a.tar"
    write_tar(path, numbered(0, 5))
    path.write_bytes(damaged(path.read_bytes(), place))
    kept, dropped = scan(path)
    assert len(kept) == num_kept
    assert "archive is damaged" in dropped.values()


def test_a_negative_size_does_not_loop(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, numbered(0, 3))
    data = bytearray(path.read_bytes())
    data[2048 + 124 : 2048 + 136] = b"\xff" * 10 + b"\xfe\0"  # -512: the header again
    data[2048 + 148 : 2048 + 156] = b" " * 8
    checksum = sum(data[2048 : 2048 + 512])
    data[2048 + 148 : 2048 + 156] = b"%06o\0 " % checksum
    path.write_bytes(data)
    kept, dropped = scan(path)
    assert [*kept] == ["00000"]
    assert dropped[""] == "archive is damaged"


def test_a_name_that_is_not_utf8(tmp_path):
    path = tmp_path / "a.tar"
    members = [("\udcff.png", png(1)), ("\udcff.txt", b"a")]
    write_tar(path, members, tarfile.GNU_FORMAT)
    assert scan(path)[0] == {"\udcff": ("a", png(1))}
