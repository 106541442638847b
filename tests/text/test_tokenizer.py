import hashlib
import json
import logging
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.errors import UserError
from imagen_jax.text.tokenizer import Tokenizer, load_tokenizer
from imagen_jax.text.tokenizer_huggingface import (
    BertVocabTokenizer,
    ClipVocabTokenizer,
    JsonTokenizer,
)
from imagen_jax.text.tokenizer_sentencepiece import SentencePieceTokenizer
from tests.text.tiny_bert import write_folder
from tests.text.toy_vocabularies import (
    BERT_WORDS,
    write_bert_vocab,
    write_clip_vocab,
    write_spiece,
)

WRITERS = {"t5": write_spiece, "bert": write_bert_vocab, "clip": write_clip_vocab}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, and "json": one with a tokenizer.json."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in WRITERS}
    for kind, write in WRITERS.items():
        write(folders[kind])
    folders["json"] = write_folder(tmp_path_factory.mktemp("json"))
    return folders


@pytest.fixture(scope="module")
def path(folders):
    return folders["json"] / "tokenizer.json"


def test_pads_and_masks(path):
    tokens = JsonTokenizer(path, 7)(["a fox", "the red fox on a"])
    assert tokens.ids.tolist() == [
        [2, 4, 6, 3, 0, 0, 0],
        [2, 5, 9, 6, 11, 4, 3],  # longer than the file's own truncation to 5
    ]
    assert tokens.mask.sum(axis=1).tolist() == [4, 7]
    assert (tokens.ids.dtype, tokens.mask.dtype) == (np.int32, np.bool_)


@pytest.mark.parametrize("kind", ["t5", "bert", "clip", "json"])
def test_an_empty_caption_has_no_valid_token(folders, kind):
    kind, folder = kind.removeprefix("json"), folders[kind]
    captions = ["", "a fox", "", "<b> </b>"]
    tokens = load_tokenizer(kind, folder, 9, "basic")(captions)
    assert tokens.mask.any(axis=1).tolist() == [False, True, False, False]
    assert not tokens.ids[[0, 2, 3]].any()
    # White space is text unless the cleaning takes it away.
    kept = load_tokenizer(kind, folder, 9)([" ", "<b> </b>"])
    assert kept.mask.any(axis=1).all()


@pytest.mark.parametrize("kind", ["t5", "bert", "clip", "json"])
def test_no_captions_give_no_rows(folders, kind):
    tokens = load_tokenizer(kind.removeprefix("json"), folders[kind], 9)([])
    assert tokens.ids.shape == tokens.mask.shape == (0, 9)


def test_cleaning_comes_before_the_vocabulary(path):
    captions = ["a&nbsp;fox", "the <b>red</b>  fox", "a fox"]
    cleaned = JsonTokenizer(path, 7, "basic")(captions)
    plain = JsonTokenizer(path, 7)(["a fox", "the red fox", "a fox"])
    np.testing.assert_array_equal(cleaned.ids, plain.ids)
    assert JsonTokenizer(path, 7)(captions).ids[0, 1] == 1  # "a&nbsp;fox" is unknown


@pytest.mark.parametrize("kind", ["t5", "bert", "clip", "json"])
def test_truncates_counts_and_warns_once(folders, kind, caplog):
    kind, folder = kind.removeprefix("json"), folders[kind]
    captions = ["the red fox", "the red fox red", "the", "the red fox on"]
    tokens = load_tokenizer(kind, folder, 50)(captions)
    length = int(tokens.mask[0].sum())  # the first caption fits exactly
    end = tokens.ids[0, length - 1]
    tokenizer = load_tokenizer(kind, folder, length)
    with caplog.at_level(logging.WARNING):
        cut = tokenizer(captions)
    np.testing.assert_array_equal(cut.ids[0], tokens.ids[0, :length])
    np.testing.assert_array_equal(cut.ids[1, :-1], tokens.ids[1, : length - 1])
    assert cut.ids[1, -1] == end  # the end stays
    assert cut.mask[1].all()
    assert tokenizer.num_truncated == 2
    assert len(caplog.records) == 1
    assert f"cut to {length} tokens" in caplog.text
    assert "'the red fox red'" in caplog.text
    shorter = load_tokenizer(kind, folder, length - 1)  # one token too many counts
    assert shorter(captions[:1]).ids[0, -1] == end
    assert shorter.num_truncated == 1


@given(st.lists(st.text(), max_size=4))
def test_any_text_becomes_tokens(folders, captions):
    sizes = {"t5": 200, "bert": len(BERT_WORDS), "clip": 600, "json": 12}
    for kind, size in sizes.items():
        tokens = load_tokenizer(kind.removeprefix("json"), folders[kind], 6)(captions)
        # A prefix of every row is valid, and nothing behind it.
        lengths = tokens.mask.sum(axis=1, keepdims=True)
        np.testing.assert_array_equal(tokens.mask, np.arange(6) < lengths)
        assert not tokens.ids[~tokens.mask].any()
        assert ((tokens.ids >= 0) & (tokens.ids < size)).all()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("t5", ["spiece.model"]),
        ("bert", ["vocab.txt"]),
        ("clip", ["vocab.json", "merges.txt"]),
        ("json", ["tokenizer.json"]),
    ],
)
def test_the_id_is_the_files_and_their_hash(folders, kind, names):
    tokenizer = load_tokenizer("", folders[kind], 8)
    contents = b"".join((folders[kind] / name).read_bytes() for name in names)
    expected = f"{'+'.join(names)} sha256:{hashlib.sha256(contents).hexdigest()}"
    assert tokenizer.id == expected
    assert isinstance(tokenizer, Tokenizer)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("t5", SentencePieceTokenizer),
        ("bert", JsonTokenizer),
        ("clip", JsonTokenizer),
        ("", SentencePieceTokenizer),
    ],
)
def test_a_kind_chooses_among_the_files(folders, tmp_path, kind, expected):
    for folder in folders.values():
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert type(load_tokenizer(kind, tmp_path, 8)) is expected
    if kind:
        (tmp_path / "tokenizer.json").unlink()
        types = {"t5": expected, "bert": BertVocabTokenizer, "clip": ClipVocabTokenizer}
        assert type(load_tokenizer(kind, tmp_path, 8)) is types[kind]


def test_a_file_may_be_given(folders, tmp_path):
    model = shutil.copy(folders["t5"] / "spiece.model", tmp_path / "en.model")
    assert load_tokenizer("t5", model, 8).id.startswith("en.model sha256:")
    for kind in ("", "bert"):
        tokenizer = load_tokenizer(kind, folders["bert"] / "vocab.txt", 8)
        assert type(tokenizer) is BertVocabTokenizer
    assert type(load_tokenizer("", str(folders["clip"] / "vocab.json"), 8)) is (
        ClipVocabTokenizer
    )


def test_a_cased_bert_is_another_tokenizer(tmp_path):
    path = write_bert_vocab(tmp_path)
    uncased = BertVocabTokenizer(path, 8)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert BertVocabTokenizer(path, 8).id == uncased.id
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = BertVocabTokenizer(path, 8)
    assert cased.id == f"{uncased.id} do_lower_case=False"
    lower, upper = BERT_WORDS.index("fox"), BERT_WORDS.index("Fox")
    assert uncased(["Fox"]).ids[0, 1] == lower
    assert cased(["Fox"]).ids[0, 1] == upper


def test_special_tokens_of_t5_in_a_caption_are_text(folders):
    tokens = load_tokenizer("t5", folders["t5"], 64)(["a </s> <pad> fox"])
    ids = tokens.ids[0, tokens.mask[0]]
    assert (ids == 1).sum() == 1
    assert not (ids == 0).any()


@pytest.mark.parametrize(
    ("kind", "length"), [("t5", 1), ("bert", 2), ("clip", 2), ("json", 2)]
)
def test_refuses_a_length_without_room_for_words(folders, kind, length):
    kind, folder = kind.removeprefix("json"), folders[kind]
    message = f"max_length is {length}; it must be at least {length + 1}, as"
    with pytest.raises(UserError, match=message):
        load_tokenizer(kind, folder, length)
    assert load_tokenizer(kind, folder, length + 1)(["fox owl"]).mask.all()


def _write_bad(folder):
    """Fills a folder with files that are no vocabulary."""
    (folder / "a_folder").mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "spiece.model").write_bytes(b"not a model")
    (folder / "latin.txt").write_bytes("café\n".encode("latin-1"))
    (folder / "short.txt").write_text("[PAD]\n[UNK]\nfox\n")
    llama = folder / "llama"
    llama.mkdir()
    write_spiece(llama, ids=(3, 2, 0))
    for name in ("no_merges", "no_special", "foreign"):
        (folder / name).mkdir()
        write_clip_vocab(folder / name)
    (folder / "no_merges" / "merges.txt").unlink()
    (folder / "foreign" / "merges.txt").write_text("#version: 0.2\nqq zz\n")
    vocabulary = json.loads((folder / "no_special" / "vocab.json").read_text())
    del vocabulary["<|startoftext|>"]
    (folder / "no_special" / "vocab.json").write_text(json.dumps(vocabulary))
    config = folder / "bad_config"
    config.mkdir()
    write_bert_vocab(config)
    (config / "tokenizer_config.json").write_text("[]")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("gpt", "", "kind is 'gpt'; give one of t5, bert, clip"),
        ("t5", "a_folder", r"holds no t5 vocabulary; put spiece\.model or tokenizer"),
        ("", "a_folder", r"holds no vocabulary; put spiece\.model or .*vocab\.txt"),
        ("bert", "nowhere.txt", "nowhere.txt cannot be read: No such file"),
        ("t5", "nowhere", "t5 vocabulary is .*nowhere; give a folder, or a file such"),
        ("bert", "foreign/vocab.json", "bert vocabulary is .*; give a folder, or a f"),
        ("t5", "short.txt", r"give a folder, or a file such as spiece\.model"),
        ("", "tokenizer.json", r"is not a tokenizer\.json"),
        ("", "spiece.model", "is not a SentencePiece model; give T5's"),
        ("", "llama/spiece.model", "pads with id 3 and ends texts with id 2"),
        ("", "latin.txt", "is not UTF-8; give BERT's vocab.txt"),
        ("", "short.txt", r"lacks \[CLS\], \[SEP\]; give the vocabulary"),
        ("", "bad_config", "tokenizer_config.json is not a tokenizer's config"),
        ("", "no_merges", "merges.txt cannot be read"),
        ("", "foreign", "vocab.json and merges.txt are not a CLIP vocabulary"),
        ("", "no_special", r"lacks <\|startoftext\|>"),
    ],
)
def test_a_bad_vocabulary_is_one_sentence(tmp_path, kind, name, message):
    _write_bad(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(kind, tmp_path / name, 8)
    assert "\n" not in str(error.value)


def test_refuses_an_unknown_cleaning_at_once(path):
    with pytest.raises(UserError, match="cleaning is 'full'; give one of none, basic"):
        JsonTokenizer(path, 8, "full")


def test_refuses_a_caption_that_is_not_unicode(path):
    # What the command line gives for bytes that are not UTF-8.
    caption = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(UserError, match=r"'caf\\udce9' is not valid Unicode"):
        JsonTokenizer(path, 8)(["a fox", caption])


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("t5", "sentencepiece", "text"),
        ("bert", "tokenizers", "text-hf"),
        ("clip", "tokenizers", "text-hf"),
        ("json", "tokenizers", "text-hf"),
    ],
)
def test_names_the_extra_of_a_missing_package(
    folders, monkeypatch, kind, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} .*imagen_jax\[{extra}\]"):
        load_tokenizer("", folders[kind], 8)
