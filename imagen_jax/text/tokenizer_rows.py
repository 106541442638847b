"""What all tokenizers share: cleaning, rows of one length with a mask, counting."""

import abc
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextTokens
from imagen_jax.text.cleaning import clean

_log = logging.getLogger(__name__)

SHOWN = 200  # letters of a caption in the log


class RowTokenizer(abc.ABC):
    """Captions to rows of tokens, padded with id 0 and masked.

    Captions that lose tokens are counted in `num_truncated`; the first one is logged.

    Attributes:
      id: which vocabulary it is, as "FILE sha256:HASH"; recorded with embeddings.
      max_length: tokens per caption, special tokens included.
      cleaning: what is done to captions first, see `imagen_jax.text.cleaning`.
      num_truncated: captions cut short since this tokenizer was made.
    """

    def __init__(self, id: str, max_length: int, cleaning: str, num_special: int):
        """Checks the settings.

        Args:
          id: see the attributes.
          max_length: at least `num_special` + 1.
          cleaning: a kind of `imagen_jax.text.cleaning`.
          num_special: special tokens that every caption gets.

        Raises:
          UserError: if `max_length` or `cleaning` is not allowed.
        """
        if max_length <= num_special:
            raise UserError(
                f"max_length is {max_length}; it must be at least {num_special + 1}, "
                f"as every caption gets {num_special} special token"
                f"{'s' if num_special > 1 else ''}"
            )
        clean(cleaning, "")  # refuses an unknown kind now, not at the first caption
        self.id = id
        self.max_length = max_length
        self.cleaning = cleaning
        self.num_truncated = 0

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        """Returns ids int32 and mask bool, numpy `[len(captions), max_length]`.

        A caption that is empty after cleaning is no text, so its mask is all False:
        not even special tokens are valid. The encoder makes the null text of it.

        Args:
          captions: as given by the user or the data set, uncleaned.

        Raises:
          UserError: for a caption that is not valid Unicode.
        """
        texts = [clean(self.cleaning, caption) for caption in captions]
        rows = [row for row, text in enumerate(texts) if text]
        for row in rows:
            _check_unicode(texts[row])
        ids = np.zeros((len(texts), self.max_length), np.int32)
        mask = np.zeros((len(texts), self.max_length), bool)
        encoded = self._encode([texts[row] for row in rows])
        for row, (tokens, is_cut) in zip(rows, encoded, strict=True):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
            if is_cut:
                self._count_truncated(captions[row])
        return TextTokens(ids, mask)  # pyright: ignore[reportArgumentType]

    @abc.abstractmethod
    def _encode(self, texts: list[str]) -> Iterable[tuple[list[int], bool]]:
        """Returns each text's ids, at most `max_length`, and whether tokens were cut.

        Special tokens are there, and survive the cut.
        """

    def _count_truncated(self, caption: str) -> None:
        if not self.num_truncated:
            _log.warning(
                "caption cut to %d tokens (further ones are only counted): %r",
                self.max_length,
                caption if len(caption) <= SHOWN else f"{caption[:SHOWN]}...",
            )
        self.num_truncated += 1


def file_id(*paths: Path) -> str:
    """Returns "FILE sha256:HASH", or "FILE+FILE sha256:HASH" of several together.

    Raises:
      UserError: if a file cannot be read.
    """
    contents = b""
    for path in paths:
        try:
            contents += path.read_bytes()
        except OSError as error:
            raise UserError(
                f"the vocabulary {path} cannot be read: {error.strerror}; give the "
                "file that belongs to the encoder's weights"
            ) from error
    return bytes_id("+".join(path.name for path in paths), contents)


def bytes_id(name: str, contents: bytes) -> str:
    """Returns "NAME sha256:HASH"."""
    return f"{name} sha256:{hashlib.sha256(contents).hexdigest()}"


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the caption {text!r} is not valid Unicode; give it as UTF-8 text"
        ) from error
