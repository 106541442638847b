import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imagen_jax.data import images
from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.errors import UserError
from imagen_jax.prepare import prepare_openmoji


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
