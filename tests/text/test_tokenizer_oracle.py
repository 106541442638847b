"""Our tokenizers and those of the transformers library give the same ids."""

import json

import pytest

from imagen_jax.text.tokenizer import load_tokenizer
from imagen_jax.text.tokenizer_huggingface import JsonTokenizer
from tests.text.toy_vocabularies import (
    TEXTS,
    write_bert_vocab,
    write_clip_vocab,
    write_spiece,
)

pytestmark = pytest.mark.oracle

WRITERS = {"t5": write_spiece, "bert": write_bert_vocab, "clip": write_clip_vocab}

CAPTIONS = (
    *TEXTS,
    "The RED foxes, owls; it's 1234!",
    "  two  spaces \t a tab\nand a line\u00a0",
    "CAFÉ cafe\u0301 Straße \ufb01ne \uff26\uff4f\uff58 İstanbul",
    "狐 fox梟 🦊👩‍🚀",
    "don't they'll we've I'm he'd you're fox's FOX'S ''' !?!?...",
    "\u200bzero\u200dwidth\x00control\x7f",
    "foxes foxty unknownword owlowlowl xxfox",
    " ",
    "a fox [MASK] on [SEP] <|endoftext|> owl",
)


def _reference(kind, folder):
    transformers = pytest.importorskip("transformers")
    names = {"t5": "T5Tokenizer", "bert": "BertTokenizer", "clip": "CLIPTokenizer"}
    return getattr(transformers, names[kind]).from_pretrained(str(folder))


def _rows(tokens):
    return [ids[mask].tolist() for ids, mask in zip(*tokens, strict=True)]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("max_length", [64, 7])
def test_same_ids_as_transformers(tmp_path, kind, max_length):
    WRITERS[kind](tmp_path)
    reference = _reference(kind, tmp_path)
    wanted = reference(list(CAPTIONS), truncation=True, max_length=max_length)
    tokens = load_tokenizer(kind, tmp_path, max_length)(CAPTIONS)
    for caption, ours, theirs in zip(
        CAPTIONS, _rows(tokens), wanted["input_ids"], strict=True
    ):
        assert ours == theirs, caption


@pytest.mark.parametrize("kind", WRITERS)
def test_a_tokenizer_json_gives_the_ids_of_the_vocabulary(tmp_path, kind):
    WRITERS[kind](tmp_path)
    reference = _reference(kind, tmp_path)
    reference.save_pretrained(tmp_path / "saved")
    ours = load_tokenizer(kind, tmp_path, 64)(CAPTIONS)
    saved = JsonTokenizer(tmp_path / "saved" / "tokenizer.json", 64)(CAPTIONS)
    assert _rows(saved) == _rows(ours)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"tokenize_chinese_chars": False},
    ],
)
def test_bert_settings_are_followed(tmp_path, settings):
    write_bert_vocab(tmp_path)
    plain = load_tokenizer("bert", tmp_path, 64)(CAPTIONS)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    reference = _reference("bert", tmp_path)
    ours = _rows(load_tokenizer("bert", tmp_path, 64)(CAPTIONS))
    assert ours == [reference(caption)["input_ids"] for caption in CAPTIONS]
    assert ours != _rows(plain)
