"""The one interface to the tokenizers, and the choice of one by its files.

A caption reaches the vocabulary as it is, or cleaned as the config says, equally in
training and in sampling (see `imagen_jax.text.cleaning`). What a vocabulary itself does
to text (an uncased BERT lower-cases) is part of its model.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextTokens
from imagen_jax.text.tokenizer_huggingface import (
    BertVocabTokenizer,
    ClipVocabTokenizer,
    JsonTokenizer,
)
from imagen_jax.text.tokenizer_sentencepiece import (
    SentencePieceTokenizer,
    SeqioTokenizer,
)

FILES = {
    "t5": ("spiece.model", "tokenizer.json"),
    "bert": ("tokenizer.json", "vocab.txt"),
    "clip": ("tokenizer.json", "vocab.json"),
    "": ("spiece.model", "tokenizer.json", "vocab.json", "vocab.txt"),
}
"""The files that can be each kind's vocabulary; the first one that is there is taken.

CLIP's vocab.json needs a merges.txt beside it.
"""


@runtime_checkable  # the tests check annotations at run time
class Tokenizer(Protocol):
    """Captions to tokens, padded to `max_length`."""

    @property
    def id(self) -> str:
        """Which vocabulary it is, as "FILE sha256:HASH"; recorded with embeddings."""
        ...

    @property
    def num_truncated(self) -> int:
        """Captions cut short since the tokenizer was made."""
        ...

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        """Returns numpy ids and mask, `[len(captions), max_length]`.

        The mask of a caption that is empty after cleaning is all False.
        """
        ...


def load_tokenizer(
    kind: str, path: str | os.PathLike, max_length: int, cleaning: str = "none"
) -> Tokenizer:
    """Returns the tokenizer that a folder or file holds.

    Args:
      kind: "t5", "bert" or "clip" admits that model's files only; "" takes any.
      path: a folder with one of `FILES`, one such file (or any *.model of
        SentencePiece), or "seqio:" with what `SeqioTokenizer` takes.
      max_length: tokens per caption, special tokens included.
      cleaning: "none" or "basic", see `imagen_jax.text.cleaning`.

    Raises:
      UserError: if there is no such file, it cannot be read, an argument is not
        allowed, or a package is missing.
    """
    if kind not in FILES:
        kinds = ", ".join(filter(None, FILES))
        raise UserError(f"the tokenizer's kind is {kind!r}; give one of {kinds}")
    if kind in ("t5", "") and os.fspath(path).startswith("seqio:"):
        name = os.fspath(path).removeprefix("seqio:")
        return SeqioTokenizer(name, max_length, cleaning)
    file = _find_file(kind, Path(path))
    match file.suffix:
        case ".model":
            return SentencePieceTokenizer(file, max_length, cleaning)
        case ".txt":
            return BertVocabTokenizer(file, max_length, cleaning)
        case _ if file.name == "vocab.json":
            return ClipVocabTokenizer(file, max_length, cleaning)
        case _:
            return JsonTokenizer(file, max_length, cleaning)


class WithinVocabulary:
    """A tokenizer whose ids are refused where the encoder has no embedding for them.

    JAX would clamp such an id to the last embedding, silently.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int):
        """Wraps a tokenizer for an encoder of `vocab_size` ids."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size

    @property
    def id(self) -> str:
        """Which vocabulary it is."""
        return self._tokenizer.id

    @property
    def num_truncated(self) -> int:
        """Captions cut short since the tokenizer was made."""
        return self._tokenizer.num_truncated

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        """Returns the tokens of captions.

        Raises:
          UserError: an id is not one of the encoder's.
        """
        tokens = self._tokenizer(captions)
        largest = np.max(tokens.ids, where=np.asarray(tokens.mask), initial=0)
        if largest >= self._vocab_size:
            raise UserError(
                f"the tokenizer gave the id {largest}, the encoder has "
                f"{self._vocab_size} ids; give the vocabulary that belongs to the "
                "weights"
            )
        return tokens


def _find_file(kind: str, path: Path) -> Path:
    """Returns the vocabulary's file."""
    names = FILES[kind]
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        raise UserError(
            f"{path} holds no {f'{kind} ' if kind else ''}vocabulary; put "
            f"{' or '.join(names)} there, or name where it is"
        )
    suffixes = sorted({os.path.splitext(name)[1] for name in names})
    is_of_another_kind = path.name in FILES[""] and path.name not in names
    if path.suffix not in suffixes or is_of_another_kind:
        raise UserError(
            f"the {f'{kind} ' if kind else ''}vocabulary is {path}; give a folder, or "
            f"a file such as {' or '.join(names)}"
        )
    return path
