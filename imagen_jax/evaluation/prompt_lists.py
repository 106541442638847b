"""Lists of prompts by category: DrawBench, PartiPrompts, or one's own.

A table, .csv or .tsv, with the columns `prompt` and `category` (DrawBench, "Prompts" in
some copies; PartiPrompts has "Prompt", "Category" and more, tab-separated, where
quotation marks are part of the prompts). Spaces around cells are dropped: one copy of
DrawBench has "Gary Marcus et al. ". A line break within a quoted cell becomes a space.

No list is part of this package, as DrawBench's licence is not stated. A list that is
named by a URL is fetched into the cache; its hash goes into every result.
"""

import csv
import hashlib
import http.client
import io
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError

_PROMPT = ("prompt", "prompts", "caption")
_CATEGORY = ("category", "categories")
_TIMEOUT_SEC = 60
_MAX_BYTES = 16_000_000


class Listed(NamedTuple):
    """A prompt and the category it is of."""

    prompt: str
    category: str


class PromptList(NamedTuple):
    """A list and where it is from.

    Attributes:
      prompts: in the list's order, each once in a category.
      num_repeated: rows that were left out as they repeat one before.
      source: the path or URL.
      sha256: of the file's bytes.
    """

    prompts: tuple[Listed, ...]
    num_repeated: int
    source: str
    sha256: str

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories in the order of their first prompts."""
        return tuple(dict.fromkeys(each.category for each in self.prompts))


def read_prompt_list(source: str) -> PromptList:
    """Returns the list of a file or URL.

    Args:
      source: a path, or an http(s) URL, which is fetched once into the cache.

    Raises:
      UserError: it cannot be had, lacks a column, has an empty cell, or no prompt.
    """
    is_url = source.startswith(("http://", "https://"))
    data = _fetched(source) if is_url else _read(Path(source).expanduser())
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is no UTF-8 text ({error}); convert it") from error
    listed = _parse(source, text)
    if not listed:
        raise UserError(f"{source} has no prompt below its first line; add some")
    if is_url:
        _keep(source, data)
    prompts = tuple(dict.fromkeys(listed))
    repeated = len(listed) - len(prompts)
    return PromptList(prompts, repeated, source, hashlib.sha256(data).hexdigest())


def _parse(source: str, text: str) -> list[Listed]:
    lines = io.StringIO(text, newline=None)  # str.splitlines splits at more
    has_tabs = "\t" in lines.readline()
    lines.seek(0)
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if has_tabs
        else csv.reader(lines, strict=True)
    )
    prompts = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        columns = [_column(source, header, names) for names in (_PROMPT, _CATEGORY)]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"line {reader.line_num} of {source}"
            if len(row) <= max(columns):
                raise UserError(
                    f"{where} has {len(row)} cells, the first line {len(header)}; put "
                    "prompts with a comma in quotes"
                )
            listed = Listed(*(_one_line(row[column]) for column in columns))
            if not all(listed):
                raise UserError(f"{where} has no prompt or no category; fill both in")
            prompts.append(listed)
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num} of {source} is malformed ({error}); put prompts "
            'with quotes in quotes, as in "a ""red"" fox"'
        ) from error
    return prompts


def _one_line(cell: str) -> str:
    return re.sub(r"\s*\n\s*", " ", cell.strip())


def _column(source: str, header: list[str], names: Sequence[str]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise UserError(
        f"{source} has the columns {', '.join(filter(None, header)) or 'none'}; it "
        "must have prompt and category"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"--prompts={path} cannot be read ({error.strerror}); give a CSV with the "
            "columns prompt,category, or its URL"
        ) from error


def _fetched(url: str) -> bytes:
    """Returns what was kept of a URL, else what it has now."""
    kept = _place(url)
    if kept.is_file():
        return kept.read_bytes()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SEC) as answer:
            data = answer.read(_MAX_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f"{url} could not be fetched ({error}); try again, or give a file"
        ) from error
    if len(data) > _MAX_BYTES:
        raise UserError(f"{url} is larger than {_MAX_BYTES} bytes; no list is")
    return data


def _keep(url: str, data: bytes) -> None:
    """Writes a list to the cache, once it is known to be one."""
    kept = _place(url)
    if kept.is_file():
        return
    partial = kept.with_suffix(".partial")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(kept)
    except OSError as error:
        raise UserError(
            f"the cache {kept.parent} cannot be written ({error.strerror}); free it, "
            "or give a file instead of a URL"
        ) from error


def _place(url: str) -> Path:
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_dir() / "prompt_lists" / name
