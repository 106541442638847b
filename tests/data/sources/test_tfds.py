import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imagen_jax.data import images
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.errors import UserError
from imagen_jax.prepare import prepare_openmoji
from tests.data.sources.archives import png
from tests.data.sources.captioned_builder import NUM_RECORDS, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set of two concepts on four grounds, two training pictures a pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmoji, "_DEFAULT", "fox, apple")
        return prepare_openmoji("default", str(tmp_path_factory.mktemp("data")), 2)


def test_the_splits_have_their_pairs(folder):
    train, held_out = TfdsSource(folder, "train"), TfdsSource(folder, "held_out")
    assert len(train) == 2 * 3 * 2
    assert len(held_out) == 2 * 12
    seen = {train[i].caption for i in range(len(train))}
    unseen = {held_out[i].caption for i in range(len(held_out))}
    assert unseen == {"an apple on a red background", "a fox on a yellow background"}
    assert not seen & unseen
    assert len(seen) == 6


def test_a_record_is_the_picture_of_its_caption(folder):
    train = TfdsSource(folder)
    pairs = {pair.caption: pair for pair in openmoji.pairs("default")}
    for index in range(len(train)):
        record = train[index]
        assert record.image.startswith(b"\x89PNG")  # as stored, not decoded
        picture = images.decode(record.image)
        pair = pairs[record.caption]
        variants = [openmoji.compose_variant(pair, v, "train", 256) for v in (0, 1)]
        assert any(np.array_equal(picture, variant) for variant in variants)
        assert record.name == f"{folder}:train[{index}]"


def test_a_part_of_a_split(folder):
    assert len(TfdsSource(folder, "train[:5]")) == 5


def test_pickling_and_threads(folder):
    source = TfdsSource(folder, "train")
    expected = [source[i] for i in range(len(source))]
    copy = pickle.loads(pickle.dumps(source))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.__getitem__, [*range(12)] * 5)) == expected * 5


def test_an_index_beyond_the_end(folder):
    with pytest.raises(IndexError, match="record 12 of 12"):
        TfdsSource(folder)[12]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("{folder}", "test", "split 'test'.*train, held_out"),
        ("{folder}/..", "train", r"no dataset_info\.json"),
        ("no_such_set", "train", "no data set 'no_such_set'"),
        ("mnist", "train", "mnist is not prepared"),
        ("coco_captions", "train", "its code needs TensorFlow; prepare it where"),
        ("gs://bucket/set", "train", "in a bucket.*copy its folder to a local"),
        ("{folder}?caption=ground.x", "train", r"no feature ground\.x .*concept"),
        ("{folder}?image=caption", "train", "no feature caption that is a picture"),
        ("{folder}?colour=red", "train", "give NAME.image=FEATURE&caption=FEATURE"),
        ("{folder}?", "train", "give NAME.image=FEATURE&caption=FEATURE"),
    ],
)
def test_what_cannot_be_read_is_named(folder, name, split, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TfdsSource(name.format(folder=folder), split)


def test_tensorflow_is_never_imported(folder):
    program = (
        "import sys\n"
        "from imagen_jax.data.sources.tfds import TfdsSource\n"
        f"assert len(TfdsSource({folder!r})[0].caption) > 10\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def captions_of(source):
    """Returns the captions, "" where a record has none, and checks the pictures."""
    captions = []
    for i in range(len(source)):
        try:
            record = source[i]
        except BadRecordError as error:
            captions.append({"no caption": ""}[error.reason])
            continue
        captions.append(record.caption)
        number = int(record.caption.split()[-2 if "title" not in record.caption else 1])
        assert record.image == png(number)
    return captions


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """A set with coco_captions's features, and more."""
    names = ("photo", "image", "label", "captions", "lines", "alt")
    return write(tmp_path_factory.mktemp("coco"), *names)


def test_nested_captions_are_found_and_drawn_by_record(coco):
    captions = captions_of(TfdsSource(coco))
    assert captions == captions_of(TfdsSource(coco))  # the same in every epoch
    assert captions.count("") == 1
    numbers = [[int(n) for n in caption.split()] for caption in captions if caption]
    assert sorted(i for i, _ in numbers) == [*range(11)]
    assert all(j <= i % 3 for i, j in numbers)
    assert {j for _, j in numbers} == {0, 1, 2}  # not always the first


@pytest.mark.parametrize("query", ["captions", "captions.text", "lines"])
def test_which_caption_is_decided_by_the_number(coco, query):
    named = TfdsSource(f"{coco}?caption={query}&image=photo")
    assert captions_of(named) == captions_of(TfdsSource(coco))


def test_a_text_inside_a_structure(coco):
    source = TfdsSource(f"{coco}?caption=alt.title")
    assert sorted(captions_of(source)) == sorted(f"title {i}" for i in range(12))


def test_what_holds_two_texts_must_be_named_further(coco):
    with pytest.raises(UserError, match=r"holds, one text.*alt\.text, alt\.title"):
        TfdsSource(f"{coco}?caption=alt")


@pytest.mark.parametrize(
    ("names", "last"),
    [(("text", "caption"), "8 2"), (("text",), "8 0"), (("alt", "text"), "8 0")],
)
def test_which_feature_is_the_caption(tmp_path, names, last):
    assert last in captions_of(TfdsSource(write(tmp_path, "image", *names)))


def test_other_files_are_read_without_tensorflow(tmp_path, coco):
    """A tfrecord file is made from the array_record: only the framing differs."""
    records = TfdsSource(coco)._data
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("dataset_info.json", "features.json"):
        text = Path(coco, name).read_text()
        (folder / name).write_text(text.replace("array_record", "tfrecord"))
    with open(folder / "captioned-train.tfrecord-00000-of-00001", "wb") as file:
        for i in range(NUM_RECORDS):
            data = records[i]
            file.write(len(data).to_bytes(8, "little") + b"crc1" + data + b"crc2")
    source = TfdsSource(str(folder))
    assert captions_of(source) == captions_of(TfdsSource(coco))
    part = TfdsSource(str(folder), "train[3:5]")
    assert [part[i].image for i in range(2)] == [source[i].image for i in (3, 4)]
    parquet = write(tmp_path / "parquet", "image", "captions", file_format="parquet")
    assert sorted(captions_of(TfdsSource(parquet)))[0] == ""


def test_files_that_cannot_be_read_at_random(tmp_path, coco):
    info = json.loads(Path(coco, "dataset_info.json").read_text())
    (tmp_path / "dataset_info.json").write_text(
        json.dumps(info | {"fileFormat": "riegeli"})
    )
    (tmp_path / "features.json").write_text(Path(coco, "features.json").read_text())
    with pytest.raises(UserError, match="files are riegeli, and must be array_record"):
        TfdsSource(str(tmp_path))
