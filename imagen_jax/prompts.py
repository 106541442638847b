"""Prompts from files, and the seed of every picture drawn of them.

.txt          a prompt a line; blank lines are skipped
.csv, .tsv    a header, then a prompt a row
.jsonl        a JSON object a line

A table's column or an object's field `prompt` is needed; `negative`, `seed` and `num`
may be there, empty ones count as missing, and others are ignored. An empty prompt in a
table or object asks for the null text.

Sample number i of a prompt has the seed `first + i`, where `first` is the row's own, or
follows from the base seed and the prompt's text alone. So a picture keeps its seed when
prompts are added, left out or put into another order.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError

NUM_SEEDS = 2**32
MAX_PICTURES = 1_000_000  # of a run; all are listed before the first is drawn


class Prompt(NamedTuple):
    """A prompt to draw.

    Attributes:
      text: what to draw; "" is the null text.
      negative: what guidance leads away from; "" is none.
      seed: of the first picture; None lets it follow from the text.
      num: pictures; None takes as many as of the others.
    """

    text: str
    negative: str = ""
    seed: int | None = None
    num: int | None = None


class Picture(NamedTuple):
    """A picture to draw: one sample of a prompt."""

    prompt: str
    negative: str
    seed: int


def read_prompts(path: Path) -> list[Prompt]:
    """Returns the prompts of a file, in its order.

    Args:
      path: see the module.

    Raises:
      UserError: it cannot be read, has no prompt, or a line is malformed; the text
        names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts={path} cannot be read: {error}") from error
    match path.suffix.lower():
        case ".jsonl":
            prompts = [_prompt(*row) for row in _json_lines(path, text)]
        case ".csv" | ".tsv" as suffix:
            delimiter = {".csv": ",", ".tsv": "\t"}[suffix]
            prompts = [_prompt(*row) for row in _table(path, text, delimiter)]
        case ".txt" | "":
            prompts = [Prompt(line) for line in text.splitlines() if line.strip()]
        case suffix:
            raise UserError(
                f"--prompts={path} ends in {suffix}; give a .txt, .csv, .tsv or .jsonl"
            )
    if not prompts:
        raise UserError(
            f"--prompts={path} has no prompt; write one a line, or a table with a "
            "column prompt"
        )
    return prompts


def plan_pictures(
    prompts: Sequence[Prompt], num: int, base_seed: int = 0
) -> list[Picture]:
    """Returns the pictures to draw, prompt after prompt.

    A prompt that is listed again goes on with its next sample numbers.

    Args:
      prompts: what to draw.
      num: pictures of each prompt that does not say itself, at least 1.
      base_seed: another one gives other pictures; prompts with a seed ignore it.

    Raises:
      UserError: they are more than `MAX_PICTURES`.
    """
    total = sum(prompt.num or num for prompt in prompts)
    if total > MAX_PICTURES:
        raise UserError(
            f"{total} pictures are asked for, at most {MAX_PICTURES} can be in a run; "
            "split the prompts, or ask for fewer of each"
        )
    pictures = []
    drawn: Counter[tuple[str, str, int]] = Counter()
    for prompt in prompts:
        first = prompt.seed
        if first is None:
            first = first_seed(prompt.text, base_seed)
        key = (prompt.text, prompt.negative, first)
        for _ in range(prompt.num or num):
            seed = (first + drawn[key]) % NUM_SEEDS
            pictures.append(Picture(prompt.text, prompt.negative, seed))
            drawn[key] += 1
    return pictures


def first_seed(prompt: str, base_seed: int = 0) -> int:
    """Returns the seed of a prompt's sample number 0, in [0, 2^32).

    It depends on nothing but the two; two prompts share one by chance only.
    """
    digest = hashlib.sha256(f"{base_seed}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _table(
    path: Path, text: str, delimiter: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (where it stands, its cells by column) of each row."""
    # Strict: otherwise one stray quote swallows the lines up to the next.
    reader = csv.reader(text.splitlines(True), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if header.count("prompt") != 1:
            raise UserError(
                f"{path} must have one column prompt; its first line names "
                f"{', '.join(map(repr, header)) or 'none'}"
            )
        for row in reader:
            if row and len(row) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num} has {len(row)} columns, the first "
                    f"line {len(header)}; put prompts with a delimiter in quotes"
                )
            if row:  # a blank line is no record
                where = f"{path}, line {reader.line_num}"
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num} is malformed ({error}); quote prompts as "
            'in "a ""red"" fox", or give a .txt or .jsonl'
        ) from error


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (where it stands, the object) of each line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{where} is not JSON ({error}); give an object a line"
            ) from error
        if not isinstance(record, dict) or "prompt" not in record:
            raise UserError(
                f"{where} is not an object with a field prompt; give lines such as "
                '{"prompt": "a red fox"}'
            )
        yield where, record


def _prompt(where: str, cells: Mapping[str, Any]) -> Prompt:
    for name in ("prompt", "negative"):
        value = cells.get(name, "")
        if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{where}: {name} is {value!r}; it must be a text")
    return Prompt(
        cells["prompt"],
        cells.get("negative", ""),
        _whole(where, cells, "seed", 0, NUM_SEEDS - 1),
        _whole(where, cells, "num", 1, NUM_SEEDS),
    )


def _whole(
    where: str, cells: Mapping[str, Any], name: str, lowest: int, highest: int
) -> int | None:
    """Returns a cell as a whole number, None where it is missing or empty."""
    value = cells.get(name)
    if value in (None, ""):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if type(value) is not int or not lowest <= value <= highest:
        raise UserError(
            f"{where}: {name} is {value!r}; it must be a whole number from {lowest} to "
            f"{highest}, or empty"
        )
    return value
