"""A folder of pictures and the text that each was drawn for.

    DIR/manifest.jsonl    as `imagen_jax.sampling.gallery` writes it: a line per picture
                          with {"file", "prompt"}, and "stage" where there are several
    DIR/captions.csv      or a table with the columns file,caption (or file,prompt)

Names of files are relative to the folder and stay inside it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from imagen_jax.data.images import decode
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError

MANIFEST, TABLE = "manifest.jsonl", "captions.csv"


class Captioned(NamedTuple):
    """A picture's file and its text."""

    file: Path
    text: str


def read_captioned(folder: Path, stage: str | None = None) -> list[Captioned]:
    """Returns what a folder lists, in its order.

    Args:
      folder: see the module.
      stage: whose pictures are taken of a manifest; None takes the last one's.

    Raises:
      UserError: there is no list, it is empty, malformed or names a missing file, there
        is no such stage, or a picture stands there twice.
    """
    if (folder / MANIFEST).is_file():
        rows = list(_manifest_rows(folder / MANIFEST))
    elif (folder / TABLE).is_file():
        rows = list(_table_rows(folder / TABLE))
    else:
        raise UserError(
            f"{folder} has neither {MANIFEST}, as `python -m imagen_jax.sample` writes "
            f"it, nor a table {TABLE} with the columns file,caption; add one"
        )
    if not rows:
        raise UserError(f"{folder} lists no picture; sample some first")
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    wanted = stages[-1] if stages and stage is None else stage
    if wanted not in stages:
        known = ", ".join(filter(None, stages)) or "none"
        raise UserError(f"{folder} has no pictures of stage {stage!r}; it has {known}")
    found = [
        _checked(folder, row["where"], row["file"], row["text"])
        for row in rows
        if row["stage"] == wanted
    ]
    counts = Counter(each.file for each in found)
    if twice := [file for file, count in counts.items() if count > 1]:
        raise UserError(f"{folder} lists {twice[0].name} twice; list each picture once")
    return found


def read_picture(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return decode(file.read_bytes())
    except (OSError, BadRecordError) as error:
        raise UserError(
            f"{file} cannot be read ({error}); make it again or take it off the list"
        ) from error


def _checked(folder: Path, where: str, file: str, text: str) -> Captioned:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise UserError(
            f"{where} names {file}, which is no file in {folder}; put it there or take "
            "out the line"
        )
    return Captioned(path, text)


def _manifest_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(io.StringIO(_text(path)), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            entry = json.loads(line)
            file, text = entry["file"], entry["prompt"]
            stage = entry.get("stage", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f'{where} is no object with "file" and "prompt" ({error}); sample again'
            ) from error
        if not all(isinstance(value, str) for value in (file, text, stage)):
            raise UserError(f"{where}: file, prompt and stage must be texts")
        yield {"where": where, "file": file, "text": text, "stage": stage}


def _table_rows(path: Path) -> Iterator[dict[str, Any]]:
    # A StringIO ends lines at line breaks only; str.splitlines also within texts.
    reader = csv.DictReader(io.StringIO(_text(path)), strict=True)
    try:
        header = reader.fieldnames or []
        column = next((name for name in ("caption", "prompt") if name in header), None)
        if "file" not in header or column is None:
            raise UserError(
                f"{path} has the columns {', '.join(header) or 'none'}; it must have "
                "file and caption"
            )
        for row in reader:
            where = f"line {reader.line_num} of {path}"
            file, text = row["file"], row[column]
            if file is None or text is None or None in row:
                raise UserError(f"{where} has not as many cells as the first line")
            yield {"where": where, "file": file, "text": text, "stage": ""}
    except csv.Error as error:
        where = f"line {reader.reader.line_num} of {path}"
        raise UserError(
            f"{where} is malformed ({error}); put captions with quotes in quotes: "
            '"a ""red"" fox"'
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); write it anew") from error
