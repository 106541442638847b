"""Vocabularies of a few dozen tokens, as the files of the real ones."""

import functools
import io
import json
from pathlib import Path

import sentencepiece
import tokenizers

TEXTS = (
    "a red fox on a blue hill",
    "the owl and the cat, and an apple on a red background",
    'The Fox says "hello world"; it\'s 12 degrees',
    "a photo of a café: wörld of numbers 1234",
)

BERT_WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"a the fox owl cat red blue on Fox cafe café ! , . ' it s 狐".split(),
    *"##es ##s ##ty f ##o ##x".split(),
)

# Merged in this order; "</w>" ends a word.
CLIP_MERGES = (
    *("f o", "fo x</w>", "r e", "re d</w>", "o w", "ow l</w>", "t h", "th e</w>"),
    *("c a", "ca t</w>", "' s</w>", "c l", "fo xe"),
)


@functools.cache
def _spiece(pad: int, eos: int, unk: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=pad,
        eos_id=eos,
        unk_id=unk,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def write_spiece(folder: Path, ids: tuple[int, int, int] = (0, 1, 2)) -> Path:
    """Returns `folder`/spiece.model, written; `ids` pad, end a text, are unknown."""
    path = folder / "spiece.model"
    path.write_bytes(_spiece(*ids))
    return path


def write_bert_vocab(folder: Path) -> Path:
    """Returns `folder`/vocab.txt, written."""
    path = folder / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in BERT_WORDS), encoding="utf-8")
    return path


def write_clip_vocab(folder: Path) -> Path:
    """Returns `folder`/vocab.json, written with its merges.txt."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "xe"]
    tokens += [merge.replace(" ", "") for merge in CLIP_MERGES]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "merges.txt").write_text(
        "".join(f"{line}\n" for line in ("#version: 0.2", *CLIP_MERGES))
    )
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary), encoding="utf-8")
    return path
