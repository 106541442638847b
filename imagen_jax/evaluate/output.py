"""What a job writes, and the sentence where it cannot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagen_jax.errors import UserError


def write_json(path: Path, content: Mapping[str, Any], flag: str = "--out") -> None:
    """Writes a result; NaN is refused, as JSON has none.

    Args:
      path: file to write; its folder is made if missing.
      content: of the result.
      flag: that named the path, for the error's sentence.

    Raises:
      UserError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", flag)


def write_text(path: Path, text: str, flag: str = "--out") -> None:
    """Writes a text as `write_json` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another {flag}"
        ) from error
