"""CSV files with a header, read strictly: the prompts, and rows of any columns."""

import csv
import os
from pathlib import Path

from imagen_jax.errors import UserError


def read_prompts(path: Path) -> list[dict[str, str]]:
    """Returns the rows of prompts.csv as {"name", "prompt", "category"}, trimmed.

    Raises:
      UserError: if it cannot be read, is empty, or a row has no prompt or a name that
        is no plain file name or was there before.
    """
    rows = read_rows(path, needs=("prompt",), allows=("name", "category"))
    result, seen = [], set()
    for i, row in enumerate(rows):
        name = row.get("name", f"{i:05d}")
        where = f"{path}, row {i + 1}"
        if not row["prompt"]:
            raise UserError(f"{where}: the prompt is empty; every row needs one")
        if not name or name != os.path.basename(name) or name.startswith("."):
            raise UserError(f"{where}: the name {name!r} is no plain file name")
        if name in seen:
            raise UserError(f"{where}: the name {name!r} was there before")
        seen.add(name)
        category = row.get("category", "")
        result.append({"name": name, "prompt": row["prompt"], "category": category})
    return result


def read_rows(
    path: Path, needs: tuple[str, ...], allows: tuple[str, ...] = ()
) -> list[dict[str, str]]:
    """Returns the rows of a CSV file with a header, every cell trimmed.

    Raises:
      UserError: if it cannot be read, has no rows, lacks a column of `needs`, or has
        one that is neither there nor in `allows`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = list(reader)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}") from error
    odd = [name for name in columns if name not in (*needs, *allows)]
    if odd or not set(needs) <= set(columns) or len(set(columns)) < len(columns):
        also = f", and may have {' and '.join(allows)}" if allows else ""
        raise UserError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; it must have "
            f"{' and '.join(needs)}{also}"
        )
    for i, row in enumerate(rows):
        if None in row or None in row.values():
            raise UserError(
                f"{path}, row {i + 1} does not have {len(columns)} cells; put a cell "
                "with a comma in double quotes"
            )
    if not rows:
        raise UserError(f"{path} has no rows")
    return [{key: value.strip() for key, value in row.items()} for row in rows]
