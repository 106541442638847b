import hashlib
import json

import pytest

from imagen_jax.embedding.job import fill_store
from imagen_jax.embedding.verify import verify_store
from imagen_jax.errors import UserError
from tests.embedding.fake_encoder import make_encoder

CAPTIONS = [f"a caption number {i}" for i in range(60)]


@pytest.fixture
def store(tmp_path):
    fill_store(make_encoder(), CAPTIONS, tmp_path / "store", num_shards=4)
    return tmp_path / "store"


def test_a_good_store_passes(store):
    assert verify_store(store).num_captions == 60


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda s: flip(s / "shard-00001-of-00004.array_record", 70_000), "checksum"),
        (lambda s: flip(s / "shard-00001-of-00004.index.npy", -1), "checksum"),
        (lambda s: (s / "shard-00001-of-00004.index.npy").unlink(), "No such file"),
        (lambda s: (s / "shard-00001-of-00004.json").unlink(), "marker is missing"),
        (
            lambda s: flip(s / "shard-00001-of-00004.json", 30),
            "not the one that the manifest knows",
        ),
    ],
)
def test_a_bad_shard_is_named_and_made_anew(store, capsys, damage, reason):
    damage(store)
    bad = "shard-00001-of-00004"
    with pytest.raises(UserError, match=f"1 of 4 shards .* are bad: {bad}; delete"):
        verify_store(store)
    printed = capsys.readouterr().out
    assert f"{bad}: " in printed
    assert reason in printed
    # What the sentence says to do.
    (store / "manifest.json").unlink()
    (store / f"{bad}.json").unlink(missing_ok=True)
    fill_store(make_encoder(), CAPTIONS, store)
    assert verify_store(store).num_captions == 60


def reseal(store, shard, files):
    """Makes checksums agree with what is there, as a faulty writer would."""
    stem = f"shard-{shard:05d}-of-00004"
    marker = json.loads((store / f"{stem}.json").read_text())
    for field, name in files.items():
        data = (store / f"{stem}.{name}").read_bytes()
        marker[field] = hashlib.sha256(data).hexdigest()
    data = json.dumps(marker).encode()
    (store / f"{stem}.json").write_bytes(data)
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["shard_sha256"][shard] = hashlib.sha256(data).hexdigest()
    (store / "manifest.json").write_text(json.dumps(manifest))


RECORDS = {"records_sha256": "array_record"}
INDEX = {"index_sha256": "index.npy"}


def test_records_are_decoded_and_found_through_the_index(store, capsys):
    def copy(source, target, name):
        (store / f"shard-0000{target}-of-00004.{name}").write_bytes(
            (store / f"shard-0000{source}-of-00004.{name}").read_bytes()
        )

    copy(0, 1, "array_record")
    reseal(store, 1, RECORDS)
    copy(0, 2, "index.npy")
    reseal(store, 2, INDEX)
    path = store / "shard-00003-of-00004.array_record"
    path.write_bytes(path.read_bytes()[:-70_000])
    reseal(store, 3, RECORDS)
    with pytest.raises(UserError, match="3 of 4 shards"):
        verify_store(store)
    printed = capsys.readouterr().out
    assert "belongs to another shard" in printed
    assert "the index does not find" in printed


def test_a_manifest_that_counts_wrongly_is_refused(store):
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["num_captions"] = 59
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"counts 59 captions, the shards hold 60"):
        verify_store(store)


def test_an_unfinished_store_cannot_be_verified(store):
    (store / "manifest.json").unlink()
    with pytest.raises(UserError, match="no finished embedding store"):
        verify_store(store)
