import pytest

from imagen_jax.data.store_format import caption_hash, shard_of
from imagen_jax.embedding import spill as spill_module
from imagen_jax.embedding.spill import CaptionSpill
from imagen_jax.errors import UserError

CAPTIONS = [f"caption {i}" for i in range(50)] + ["Größe\nµ", "", "caption 3"]


@pytest.mark.parametrize("buffered", [1, 100, 2**25])
def test_each_shard_gets_its_distinct_captions(tmp_path, monkeypatch, buffered):
    monkeypatch.setattr(spill_module, "_BUFFERED", buffered)
    spill = CaptionSpill(tmp_path, iter(CAPTIONS))
    assert spill.num_captions == 52
    spill.split(7, lambda shard: shard != 2)
    assert spill.shard(2) == []
    for shard in (0, 1, 3, 4, 5, 6):
        expected = [
            caption
            for caption in dict.fromkeys(CAPTIONS)
            if caption and shard_of(caption_hash(caption), 7) == shard
        ]
        assert spill.shard(shard) == expected
        assert expected


def test_the_digest_depends_on_the_captions_but_not_on_their_order(tmp_path):
    digests = []
    for i, captions in enumerate(
        (["a", "b", "c"], ["c", "", "a", "b"], ["a", "b"], ["a", "b", "d"])
    ):
        (tmp_path / str(i)).mkdir()
        digests.append(CaptionSpill(tmp_path / str(i), captions).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("captions", [[], ["", ""]])
def test_nothing_to_embed_is_refused(tmp_path, captions):
    with pytest.raises(UserError, match="no captions to embed, or all are empty"):
        CaptionSpill(tmp_path, captions)


def test_half_a_character_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'a \\ud800' has half a character"):
        CaptionSpill(tmp_path, ["a \ud800"])
