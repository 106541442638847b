"""T5's vocabulary: SentencePiece, read directly or through seqio.

Ids of T5 (arXiv:1910.10683, section 2.2): 0 pads, 1 ends a text, 2 is unknown. Text
such as "</s>" or "<extra_id_0>" in a caption is text here, never a special token.
"""

import importlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional
from imagen_jax.text.tokenizer_rows import RowTokenizer, bytes_id, file_id

EOS = 1

_OBJECT = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")


class SentencePieceTokenizer(RowTokenizer):
    """T5's spiece.model, run by the `sentencepiece` library.

    The end-of-text id closes every row; truncation keeps it.
    """

    def __init__(
        self, path: str | os.PathLike, max_length: int, cleaning: str = "none"
    ):
        """Reads the file.

        Args:
          path: a SentencePiece model whose ids are T5's.
          max_length: tokens per caption with the end, at least 2.
          cleaning: see `imagen_jax.text.cleaning`.

        Raises:
          UserError: if an argument is not allowed, the file is no such model, or the
            package `sentencepiece` is not installed.
        """
        library = import_optional("sentencepiece", "text")
        super().__init__(file_id(Path(path)), max_length, cleaning, num_special=1)
        try:
            self._processor = library.SentencePieceProcessor(model_file=os.fspath(path))
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"{path} is not a SentencePiece model; give T5's spiece.model"
            ) from error
        _check_ids(path, self._processor.pad_id(), self._processor.eos_id())

    def _encode(self, texts: list[str]) -> Iterable[tuple[list[int], bool]]:
        encoded = self._processor.encode(texts)
        return [_close(ids, self.max_length) for ids in encoded]


class SeqioTokenizer(RowTokenizer):
    """A vocabulary of seqio, as T5X's users have it in their Tasks.

    Its ids are those of `SentencePieceTokenizer` on the same model, except that the
    vocabulary may have further ids for "<extra_id_0>" and so on.
    """

    def __init__(self, name: str, max_length: int, cleaning: str = "none"):
        """Imports or opens the vocabulary.

        Args:
          name: "MODULE:OBJECT", where OBJECT is a `seqio.SentencePieceVocabulary` or a
            function without arguments that returns one; else the path of a
            SentencePiece model, which seqio reads from gs:// too.
          max_length: tokens per caption with the end, at least 2.
          cleaning: see `imagen_jax.text.cleaning`.

        Raises:
          UserError: if an argument is not allowed, there is no such vocabulary, or the
            package `seqio` is not installed.
        """
        seqio = import_optional("seqio", "seqio")
        if match := _OBJECT.fullmatch(name):
            vocabulary = _import_object(match[1], match[2])
        else:
            vocabulary = seqio.SentencePieceVocabulary(name)
        if not isinstance(vocabulary, seqio.SentencePieceVocabulary):
            raise UserError(
                f"{name} is a {type(vocabulary).__name__}; give a "
                "seqio.SentencePieceVocabulary or a function that returns one"
            )
        try:
            model = vocabulary.sp_model
        except Exception as error:  # TensorFlow's file errors have no common base
            raise UserError(
                f"the vocabulary {vocabulary.sentencepiece_model_file} cannot be read: "
                f"{str(error).splitlines()[0]}; give a SentencePiece model"
            ) from error
        file = os.path.basename(vocabulary.sentencepiece_model_file)
        super().__init__(bytes_id(file, model), max_length, cleaning, num_special=1)
        _check_ids(name, vocabulary.pad_id, vocabulary.eos_id)
        self._vocabulary = vocabulary

    def _encode(self, texts: list[str]) -> Iterable[tuple[list[int], bool]]:
        for text in texts:
            yield _close(list(self._vocabulary.encode(text)), self.max_length)


def _close(ids: list[int], max_length: int) -> tuple[list[int], bool]:
    """Returns the ids with their end, and whether some were cut to make room."""
    return [*ids[: max_length - 1], EOS], len(ids) >= max_length


def _check_ids(name: Any, pad: int, eos: int) -> None:
    if (pad, eos) != (0, EOS):
        raise UserError(
            f"{name} pads with id {pad} and ends texts with id {eos}; a T5 vocabulary "
            f"has 0 and {EOS}, so give the spiece.model of the encoder's weights"
        )


def _import_object(module: str, name: str) -> Any:
    try:
        found = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UserError(
            f"the seqio vocabulary {module}:{name} cannot be imported ({error}); give "
            "MODULE:OBJECT of an installed module"
        ) from error
    return found() if callable(found) else found
