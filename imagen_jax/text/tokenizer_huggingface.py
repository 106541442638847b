"""Vocabularies that the `tokenizers` library runs: tokenizer.json, BERT's and CLIP's.

BERT's vocab.txt and CLIP's vocab.json hold tokens only; how text is normalised and
split is in the code of the models (arXiv:1810.04805, arXiv:2103.00020), and so is here.
Special tokens written out in a caption, such as "[SEP]", are the special tokens, as in
the transformers library.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional
from imagen_jax.text.tokenizer_rows import RowTokenizer, file_id

_BERT_SPECIALS = ("[UNK]", "[CLS]", "[SEP]")
_BERT_SETTINGS = {
    "do_lower_case": True,
    "strip_accents": None,  # None: if lower-casing
    "tokenize_chinese_chars": True,
}
_CLIP_START, _CLIP_END = "<|startoftext|>", "<|endoftext|>"
# Contractions, words, single digits, other signs.
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
)


class _LibraryTokenizer(RowTokenizer):
    """A tokenizer of the `tokenizers` library, cut but not padded by it."""

    def __init__(self, tokenizer: Any, id: str, max_length: int, cleaning: str):
        num_special = tokenizer.num_special_tokens_to_add(False)
        super().__init__(id, max_length, cleaning, num_special)
        tokenizer.enable_truncation(max_length)
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def _encode(self, texts: list[str]) -> Iterable[tuple[list[int], bool]]:
        for encoding in self._tokenizer.encode_batch(texts):
            yield encoding.ids, bool(encoding.overflowing)


class JsonTokenizer(_LibraryTokenizer):
    """A tokenizer.json. What it does to the text is part of its model."""

    def __init__(
        self, path: str | os.PathLike, max_length: int, cleaning: str = "none"
    ):
        """Reads the file.

        Args:
          path: a tokenizer.json; its own truncation is replaced, its padding unused.
          max_length: tokens per caption, more than it has special ones.
          cleaning: see `imagen_jax.text.cleaning`.

        Raises:
          UserError: if an argument is not allowed, the file cannot be read, or the
            package `tokenizers` is not installed.
        """
        library = _import_library()
        id = file_id(Path(path))
        try:
            tokenizer = library.Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises Exception itself
            raise UserError(f"{path} is not a tokenizer.json: {error}") from error
        super().__init__(tokenizer, id, max_length, cleaning)


class BertVocabTokenizer(_LibraryTokenizer):
    """BERT's vocab.txt, by word pieces.

    A tokenizer_config.json beside it may say do_lower_case (true if it does not),
    strip_accents and tokenize_chinese_chars; other values than an uncased BERT's are
    appended to `id`, since the vocabulary's hash does not know them.
    """

    def __init__(
        self, path: str | os.PathLike, max_length: int, cleaning: str = "none"
    ):
        """Reads the file.

        Args:
          path: a vocab.txt, a token a line, with [CLS], [SEP] and [UNK].
          max_length: tokens per caption, at least 3: two mark the ends.
          cleaning: see `imagen_jax.text.cleaning`.

        Raises:
          UserError: if an argument is not allowed, a file cannot be read or lacks
            tokens, or the package `tokenizers` is not installed.
        """
        library = _import_library()
        path = Path(path)
        id = file_id(path)
        try:
            with path.open(encoding="utf-8") as file:
                vocabulary = {line.rstrip("\n"): i for i, line in enumerate(file)}
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8; give BERT's vocab.txt") from error
        _check_tokens(path, vocabulary, _BERT_SPECIALS)
        settings = _bert_settings(path.parent / "tokenizer_config.json")
        for name, value in settings.items():
            if value != _BERT_SETTINGS[name]:
                id += f" {name}={value}"
        model = library.models.WordPiece(vocabulary, unk_token="[UNK]")
        tokenizer = library.Tokenizer(model)
        tokenizer.normalizer = library.normalizers.BertNormalizer(
            lowercase=settings["do_lower_case"],
            strip_accents=settings["strip_accents"],
            handle_chinese_chars=settings["tokenize_chinese_chars"],
        )
        tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        others = [token for token in ("[PAD]", "[MASK]") if token in vocabulary]
        _enclose(library, tokenizer, "[CLS]", "[SEP]", ["[UNK]", *others])
        super().__init__(tokenizer, id, max_length, cleaning)


class ClipVocabTokenizer(_LibraryTokenizer):
    """CLIP's vocab.json and merges.txt: lower-cased text, byte pairs within words."""

    def __init__(
        self, path: str | os.PathLike, max_length: int, cleaning: str = "none"
    ):
        """Reads the files.

        Args:
          path: a vocab.json, with merges.txt beside it.
          max_length: tokens per caption, at least 3: two mark the ends.
          cleaning: see `imagen_jax.text.cleaning`.

        Raises:
          UserError: if an argument is not allowed, a file cannot be read, they do not
            belong together, or the package `tokenizers` is not installed.
        """
        library = _import_library()
        path = Path(path)
        merges = path.parent / "merges.txt"
        id = file_id(path, merges)
        try:
            model = library.models.BPE.from_file(
                str(path), str(merges), unk_token=_CLIP_END, end_of_word_suffix="</w>"
            )
        except Exception as error:  # the library raises Exception itself
            raise UserError(
                f"{path} and {merges.name} are not a CLIP vocabulary: {error}"
            ) from error
        tokenizer = library.Tokenizer(model)
        vocabulary = tokenizer.get_vocab()
        _check_tokens(path, vocabulary, (_CLIP_START, _CLIP_END))
        normalizers, splitters = library.normalizers, library.pre_tokenizers
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(library.Regex(r"\s+"), " "),
                normalizers.Lowercase(),
            ]
        )
        words = library.Regex(_CLIP_WORDS)
        tokenizer.pre_tokenizer = splitters.Sequence(
            [
                splitters.Split(words, behavior="removed", invert=True),
                splitters.ByteLevel(add_prefix_space=False),
            ]
        )
        _enclose(library, tokenizer, _CLIP_START, _CLIP_END)
        super().__init__(tokenizer, id, max_length, cleaning)


def _import_library() -> Any:
    return import_optional("tokenizers", "text-hf")


def _check_tokens(
    path: Path, vocabulary: Mapping[str, int], needed: tuple[str, ...]
) -> None:
    missing = [token for token in needed if token not in vocabulary]
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; give the vocabulary of the encoder's "
            "weights"
        )


def _bert_settings(path: Path) -> dict[str, bool | None]:
    """Returns `_BERT_SETTINGS` with what the file says otherwise, if there is one."""
    if not path.exists():
        return dict(_BERT_SETTINGS)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found.get(name, value) for name, value in _BERT_SETTINGS.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not a tokenizer's config ({error}); restore it or delete it"
        ) from error


def _enclose(
    library: Any, tokenizer: Any, start: str, end: str, others: Iterable[str] = ()
) -> None:
    """Makes the tokens special, and puts `start` and `end` around every text."""
    tokenizer.add_special_tokens([start, end, *others])
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single=[start, "$A", end],
        special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in (start, end)
        ],
    )
