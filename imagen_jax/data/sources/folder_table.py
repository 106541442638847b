"""The table of captions in a folder of pictures.

metadata.csv, metadata.tsv or metadata.jsonl (or captions.*), UTF-8, with the columns
`file_name`, a path below the folder, and `caption` or `text`.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from imagen_jax.errors import UserError

_TABLES = tuple(
    stem + suffix
    for stem in ("metadata", "captions")
    for suffix in (".csv", ".tsv", ".jsonl")
)
_NAME_COLUMN = "file_name"


def read_table(folder: str, column: str) -> dict[str, str] | None:
    """Returns caption by path below the folder; None if the folder has no table.

    Args:
      folder: where the table is.
      column: of the captions; "" is "caption" or "text".

    Raises:
      UserError: if there are several tables, or a line of it is malformed.
    """
    tables = [name for name in _TABLES if os.path.isfile(os.path.join(folder, name))]
    if not tables:
        return None
    if len(tables) > 1:
        raise UserError(
            f"{folder} holds {' and '.join(tables)}; keep one table of captions"
        )
    path = os.path.join(folder, tables[0])
    captions: dict[str, str] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        name = os.path.normpath(_text(row, [_NAME_COLUMN], where))
        if name in captions:
            raise UserError(f"{where} names {name} again; give each picture one line")
        captions[name] = _text(row, [column] if column else ["caption", "text"], where)
    return captions


def _text(row: dict[str, Any], columns: list[str], where: str) -> str:
    value = next((row[column] for column in columns if column in row), 0)
    if value is None:  # JSON's null: a picture without a caption
        return ""
    if isinstance(value, str):
        return value
    raise UserError(
        f"{where} has no text in {' or '.join(map(repr, columns))}; it has "
        f"{', '.join(map(repr, row)) or 'nothing'}, so correct it, or name the column "
        "of captions by --caption_column"
    )


def _rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.endswith(".jsonl"):
                yield from _json_rows(path, file)
                return
            delimiter = "\t" if path.endswith(".tsv") else ","
            # Strict: otherwise one stray quote swallows the lines up to the next.
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            try:
                for row in reader:
                    if None in row or None in row.values():
                        raise csv.Error("another number of columns than the first line")
                    yield reader.line_num, row
            except csv.Error as error:
                number = reader.reader.line_num  # the DictReader's is behind by now
                raise UserError(
                    f"{path}, line {number} is malformed ({error}); put captions with "
                    "commas or quotes in quotes"
                ) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); allow it to be read, or move "
            "it elsewhere"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as "
            "UTF-8"
        ) from error


def _json_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number} is not JSON ({error}); give an object a line"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is no object; give one a line")
        yield number, row
