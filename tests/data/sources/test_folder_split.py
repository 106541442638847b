import numpy as np
import pytest

from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import Source
from imagen_jax.data.sources import indexed
from imagen_jax.data.sources.folder_split import held_out_mask
from imagen_jax.data.sources.opening import open_source
from imagen_jax.embedding.sources import captions_of
from imagen_jax.errors import UserError
from tests.data.sources.archives import write_folder

NUM = 40
PINNED = [26, 34, 36, 38, 91, 96]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "folder", 0, NUM)


def captions(text):
    source = open_source(text)
    return [source[i].caption for i in range(len(source))]


def test_both_sides_are_the_whole_in_order(tmp_path, folder):
    build_index([folder], str(tmp_path / "index"), IndexOptions())
    for whole in (f"folder:{folder}", f"index:{tmp_path}/index"):
        train, held_out = (captions(f"{whole}:{s}") for s in ("train", "held_out"))
        assert 1 <= len(held_out) < NUM / 4
        assert train == [c for c in captions(whole) if c in train]
        assert sorted(train + held_out) == sorted(captions(whole))
    assert held_out == captions(f"folder:{folder}:held_out")  # of either kind
    assert isinstance(open_source(f"folder:{folder}:train"), Source)


def test_a_picture_keeps_its_side(tmp_path, folder):
    before = set(captions(f"folder:{folder}:held_out"))
    write_folder(tmp_path / "folder", NUM, 4 * NUM)
    moved = str(tmp_path / "moved")
    (tmp_path / "folder").rename(moved)
    after = set(captions(f"folder:{moved}:held_out"))
    assert before < after


def test_the_share_is_a_tenth():
    mask = held_out_mask(f"{i}.jpg" for i in range(20_000))
    assert abs(mask.mean() - 0.1) < 0.01  # 5 standard deviations
    # Pinned: another hash would move pictures of old runs to the other side.
    assert np.flatnonzero(mask)[:6].tolist() == PINNED


@pytest.mark.parametrize("first", range(20))
def test_a_pair_is_one_of_each(first):
    assert held_out_mask([f"{first}.png", f"{first + 1}.png"]).sum() == 1


def test_equal_names_are_split_all_the_same():
    for name in map(str, range(40)):  # of some the hash is in the tenth
        assert held_out_mask([name] * 3).sum() in (1, 2)


def test_names_that_are_not_utf_8():
    mask = held_out_mask([b"\xff.png".decode("utf-8", "surrogateescape"), "a"])
    assert mask.sum() == 1


def test_captions_are_had_without_reading_pictures(tmp_path, folder, monkeypatch):
    build_index([folder], str(tmp_path / "index"), IndexOptions())
    expected = captions(f"index:{tmp_path}/index:train")
    monkeypatch.delattr(indexed.IndexedSource, "_read")
    source = open_source(f"index:{tmp_path}/index:train")
    assert list(captions_of(source)) == expected
    with pytest.raises(IndexError, match=f"record {len(source)} of"):
        source[len(source)]


def test_one_record_cannot_be_split(tmp_path):
    folder = write_folder(tmp_path / "one", 0, 1)
    with pytest.raises(UserError, match="one holds 1 record, which cannot be split"):
        open_source(f"folder:{folder}:held_out")


def test_another_split_is_taken_for_a_path(folder):
    with pytest.raises(UserError, match="folder:heldout is no folder with pictures"):
        open_source(f"folder:{folder}:heldout")
