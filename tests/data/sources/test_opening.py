import pytest

from imagen_jax.data.indexing.build import build_index
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.sources.opening import open_source, parse_tfds
from imagen_jax.errors import UserError
from tests.data.sources.archives import numbered, write_folder, write_tar


@pytest.fixture
def index(tmp_path):
    write_tar(tmp_path / "a.tar", numbered(0, 3))
    build_index([str(tmp_path / "a.tar")], str(tmp_path / "index"), IndexOptions())
    return str(tmp_path / "index")


def captions(text):
    source = open_source(text)
    return [source[i].caption for i in range(len(source))]


def test_each_kind(tmp_path, index):
    folder = write_folder(tmp_path / "folder", 3, 5)
    assert captions(f"index:{index}") == [f"picture {i}" for i in range(3)]
    assert captions(f"folder:{folder}") == ["picture 3", "picture 4"]
    assert len(captions("synthetic:4:8")) == 4


def test_a_mixture(tmp_path, index):
    folder = write_folder(tmp_path / "folder", 3, 5)
    # Sizes 3 and 2 at 1 : 2 are 3 and 6 places.
    text = f"mixture:1=index:{index}; 2.0 =folder:{folder}"
    assert captions(text) == [f"picture {i}" for i in (0, 1, 2, 3, 4, 3, 4, 3, 4)]
    text = f"mixture:index:{index};folder:{folder}"
    assert captions(text) == [f"picture {i}" for i in range(5)]
    # An equals sign behind the kind is part of a path.
    odd = write_folder(tmp_path / "a=b", 5, 6)
    assert captions(f"mixture:folder:{odd}") == ["picture 5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index", "the data source is 'index'; give index:DIR, folder:DIR, tfds:"),
        ("flowers:12", "'flowers:12'; give"),
        (
            "tars:a.tar",
            r"order depends on the number of hosts; index .* give index:DIR",
        ),
        ("parquet:gs://b/*", "order depends on the number of hosts"),
        ("mixture:1=synthetic:2;synthetic:3", "'synthetic:3'.*has no weight"),
        ("mixture:a=synthetic:2", "a weight of the mixture is 'a'; give numbers"),
        ("mixture:-1=synthetic:2", "is -1.0; give numbers above 0"),
        ("mixture:mixture:synthetic:2", "a mixture is part of a mixture"),
        ("mixture:1=synthetic:2;", "'', of a mixture, has no weight"),
        ("index:/none", r"/none is no index \(it has no index\.json\); make one by"),
    ],
)
def test_what_cannot_be_opened(text, message):
    with pytest.raises(UserError, match=message):
        open_source(text)


def test_features_stay_with_the_name_of_a_data_set():
    parsed = parse_tfds("tfds:coco_captions/2014?caption=captions.text:train[:5%],val")
    assert parsed == ("coco_captions/2014?caption=captions.text", ["train[:5%]", "val"])
