import dataclasses
import hashlib
import json

import pytest

from imagen_jax.config import TEXT_IDENTITY
from imagen_jax.data import store_format
from imagen_jax.data.remote import open_folder
from imagen_jax.data.store_format import (
    Manifest,
    Marker,
    caption_hash,
    differences,
    dump_json,
    parse_manifest,
    parse_marker,
    read_manifest,
    shard_of,
    shard_stem,
)
from imagen_jax.errors import UserError

MANIFEST = Manifest(
    encoder="toy",
    weights_sha256="0" * 64,
    tokenizer="words",
    width=4,
    max_length=6,
    num_shards=2,
    shard_sha256=("1", "2"),
)


def test_a_manifest_and_a_marker_round_trip():
    assert parse_manifest(dump_json(MANIFEST), "manifest.json") == MANIFEST
    marker = Marker(3, 1, "a", "b")
    assert parse_marker(dump_json(marker), "x.json") == marker


def test_the_identity_is_what_a_stage_records():
    assert MANIFEST.identity().keys() == set(TEXT_IDENTITY)
    fields = {field.name for field in dataclasses.fields(Manifest)}
    assert fields > MANIFEST.identity().keys()


def test_differences_name_each_field_that_differs():
    assert differences(MANIFEST, MANIFEST.identity()) == ""
    found = differences(MANIFEST, {"width": 8, "encoder": "toy", "max_length": 7})
    assert found == "width 4, now 8; max_length 6, now 7"


def test_a_captions_place_is_a_published_function_of_its_text():
    key = hashlib.sha256("Größe".encode()).digest()[:16]
    assert caption_hash("Größe") == key
    assert shard_of(key, 1) == 0
    assert shard_of(bytes([0] * 7 + [10]) + b"\xff" * 8, 7) == 3
    assert shard_stem(3, 16) == "shard-00003-of-00016"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is not JSON of an embedding store"),
        (dump_json(MANIFEST)[:-20], "is not JSON of an embedding store"),
        (b"[1]", r"is not JSON of an embedding store \(\[1\]\)"),
        (b'{"version": 1}', "is of version 1, this program reads version 2; delete"),
        (b'{"version": 2}', "is not what this program writes"),
        (
            json.dumps(dataclasses.asdict(MANIFEST) | {"colour": 1}).encode(),
            "is not what this program writes .*colour.*; delete that store and embed",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path, data, text):
    (tmp_path / store_format.MANIFEST).write_bytes(data)
    with pytest.raises(UserError, match=f"manifest.json {text}"):
        read_manifest(open_folder(tmp_path))


def test_a_damaged_marker_is_refused():
    with pytest.raises(UserError, match=r"x.json is not what .*; delete it and manif"):
        parse_marker(b'{"num_captions": 1}', "x.json")
