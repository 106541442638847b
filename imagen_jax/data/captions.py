"""Captions from text files: a caption a line, a column of a table, a field of JSON.

.txt    a caption a line; a file without an ending is read so too
.csv    a header, then a record a row; a caption with commas or quotes is quoted
.tsv    the same with tabs
.jsonl  a JSON object a line

Files are UTF-8, with or without a byte order mark, and are read a line at a time. A
caption is handed out exactly as it stands there, an empty one too. Nothing unreadable
is skipped: a caption left out or split wrongly would go unseen until training asks for
it.
"""

import csv
import json
import os
from collections.abc import Iterator
from typing import Any

from imagen_jax.errors import UserError

DEFAULT_COLUMN = "caption"

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_captions(path: str | os.PathLike, column: str | None = None) -> Iterator[str]:
    """Yields the captions of a file, in its order, in constant memory.

    Args:
      path: see the module.
      column: column of a table or field of the JSON objects; None is
        `DEFAULT_COLUMN`, and the only choice for a .txt.

    Raises:
      UserError: if the file cannot be read, has another ending, lacks the column, or
        holds a line that is malformed or not UTF-8; the text names the line.
    """
    suffix = os.path.splitext(path)[1].lower()
    match suffix:
        case "" | ".txt":
            if column is not None:
                raise UserError(
                    f"{path} has no columns, so no column {column!r}; leave the column "
                    "out, or give a .csv, .tsv or .jsonl"
                )
            for line in _lines(path):
                yield line.removesuffix("\n").removesuffix("\r")
        case ".csv" | ".tsv":
            yield from _table(path, column or DEFAULT_COLUMN, _DELIMITERS[suffix])
        case ".jsonl":
            yield from _json_lines(path, column or DEFAULT_COLUMN)
        case _:
            raise UserError(
                f"the captions' file {path} ends in {suffix}; give a .txt, .csv, .tsv "
                "or .jsonl"
            )


def _lines(path: str | os.PathLike) -> Iterator[str]:
    """Yields the lines with their ends, without a byte order mark."""
    try:
        # Bytes, because a text file is decoded in blocks: which line is bad is unknown.
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path}, line {number} is not UTF-8 ({error.reason}); save "
                        "the file as UTF-8"
                    ) from error
    except OSError as error:
        raise UserError(
            f"the captions' file {path} cannot be read: {error.strerror}; give one "
            "that is there"
        ) from error


def _table(path: str | os.PathLike, column: str, delimiter: str) -> Iterator[str]:
    # Strict: otherwise one stray quote swallows the lines up to the next.
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if header.count(column) != 1:
            raise UserError(
                f"{path} has {header.count(column) or 'no'} column"
                f"{'s' if header.count(column) else ''} {column!r}; its first line "
                f"names {', '.join(map(repr, header)) or 'none'}, so choose one of "
                "these by --column"
            )
        index = header.index(column)
        for row in reader:
            if row and len(row) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num} has {len(row)} columns, the first "
                    f"line {len(header)}; put captions with a delimiter in quotes"
                )
            if row:  # a blank line is no record
                yield row[index]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num} is malformed ({error}); quote captions as "
            'in "a ""red"" fox", or give a .txt or .jsonl'
        ) from error


def _json_lines(path: str | os.PathLike, column: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number} is not JSON ({error}); give an object a line"
            ) from error
        yield _field(record, column, f"{path}, line {number}")


def _field(record: Any, column: str, where: str) -> str:
    if not isinstance(record, dict):
        raise UserError(
            f"{where} is not a JSON object; give lines such as "
            f"{json.dumps({column: 'a red fox'})}"
        )
    if column not in record:
        raise UserError(
            f"{where} has no field {column!r}; it has "
            f"{', '.join(map(repr, record)) or 'none'}, so choose one of these by "
            "--column"
        )
    caption = record[column]
    if not isinstance(caption, str):
        raise UserError(
            f"{where} has {json.dumps(caption)[:60]} in field {column!r}; give a string"
        )
    if any("\ud800" <= character <= "\udfff" for character in caption):
        raise UserError(
            f"{where} has half a character ({caption!r}); give text that UTF-8 can hold"
        )
    return caption
