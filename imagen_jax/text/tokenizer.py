"""Captions to token ids, padded to a fixed length and masked.

A caption reaches the tokenizer exactly as it is stored: no lower-casing, no stripping,
no cleaning of any kind here. What a model's own tokenizer.json does (an uncased BERT
lower-cases) is part of that model and happens the same way in training and in sampling.
"""

import logging
import os
from collections.abc import Sequence

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextTokens

_log = logging.getLogger(__name__)


class JsonTokenizer:
    """A tokenizer.json, run by the `tokenizers` library.

    Truncation keeps the closing special token. Captions that lose tokens are counted
    in `num_truncated`; the first one is logged.

    Attributes:
      max_length: tokens per caption, special tokens included.
      num_truncated: captions cut short since this tokenizer was made.
    """

    def __init__(self, path: str | os.PathLike, max_length: int):
        """Reads the file.

        Args:
          path: a tokenizer.json; its own truncation is replaced, its padding unused.
          max_length: tokens per caption, at least 3 (two of them are special).

        Raises:
          UserError: if `max_length` is too small, the file cannot be read, or the
            package `tokenizers` is not installed.
        """
        if max_length < 3:
            raise UserError(
                f"max_length is {max_length}; it must be at least 3, as two tokens "
                "mark the ends of a caption"
            )
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise UserError(
                "this text encoder needs the Python package tokenizers; it comes with "
                'pip install "imagen_jax[quickstart]"'
            ) from error
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises Exception itself
            raise UserError(f"{path} is not a tokenizer.json: {error}") from error
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()  # padded below, so that mask and ids agree
        self.max_length = max_length
        self.num_truncated = 0

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        """Returns ids int32 and mask bool, numpy `[len(captions), max_length]`.

        Args:
          captions: as stored; "" gives the special tokens alone.
        """
        ids = np.zeros((len(captions), self.max_length), np.int32)
        mask = np.zeros((len(captions), self.max_length), bool)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(captions))):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = True
            if encoding.overflowing:
                self._count_truncated(captions[row])
        return TextTokens(ids, mask)  # pyright: ignore[reportArgumentType]

    def _count_truncated(self, caption: str) -> None:
        if not self.num_truncated:
            _log.warning(
                "caption cut to %d tokens (further ones are only counted): %r",
                self.max_length,
                caption,
            )
        self.num_truncated += 1
