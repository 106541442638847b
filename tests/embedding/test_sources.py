import pytest

from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.embedding import sources
from imagen_jax.embedding.sources import captions_of, open_captions
from imagen_jax.errors import UserError


class Source:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise BadRecordError("caption is not UTF-8")
        return Record(b"", f"caption {index}", f"record {index}")


def test_a_bad_record_is_logged_and_left_out(caplog):
    assert list(captions_of(Source())) == ["caption 0", "caption 2"]
    assert "record 1 has no usable caption: caption is not UTF-8" in caplog.text


def test_any_source_of_a_config_has_captions():
    source = SyntheticSource(8, 16, seed=0)
    expected = [source[i].caption for i in range(8)]
    assert list(open_captions("synthetic:8:16")) == expected


def test_the_splits_of_a_data_set_follow_one_another(monkeypatch):
    def open_split(name, split):
        assert name == "shapes/small"
        return [Record(b"", f"{split} {i}", "") for i in range(2)]

    monkeypatch.setattr(sources, "TfdsSource", open_split)
    captions = list(open_captions("tfds:shapes/small:train,held_out"))
    assert captions == ["train 0", "train 1", "held_out 0", "held_out 1"]


def test_a_seqio_task_is_read_by_its_parts(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sources, "seqio_captions", lambda *parts: asked.append(parts) or iter(["a"])
    )
    assert list(open_captions("seqio:my.tasks@shapes:train:text")) == ["a"]
    assert asked == [("shapes", "train", "text", "my.tasks")]


@pytest.mark.parametrize("text", ["webdataset:x", "tfds:", "seqio:x"])
def test_another_form_is_refused(text):
    with pytest.raises(UserError, match=text):
        list(open_captions(text))
