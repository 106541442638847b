"""What to say when a device has no room for a stage."""

import contextlib
import re
from collections.abc import Iterator

import jax

from imagen_jax.errors import UserError

# XLA's words: "Out of memory allocating 123 bytes", "... while trying to allocate
# 1.50GiB", "Used 20.1G of 15.7G hbm".
_AMOUNT = re.compile(r"(?:allocat\w+|Used) (\d[\d.]* ?[KMGT]?(?:i?B\b|bytes\b)?)")


@contextlib.contextmanager
def naming_the_stage(name: str, batch_size: int) -> Iterator[None]:
    """Turns JAX's error that a device is full into a sentence on the stage.

    Args:
      name: of the stage that is read or run inside.
      batch_size: pictures in a call.

    Raises:
      UserError: there was no room; it says for how much, as far as JAX does.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = _AMOUNT.search(str(error))
        wanted = f" for {_readable(found[1])}" if found else ""
        smaller = f" than {batch_size}" if batch_size > 1 else ""
        raise UserError(
            f"stage {name} found no room on the device{wanted}; draw in batches of "
            f"fewer pictures{smaller}, keep one stage at a time there (--in_turn), or "
            "use more devices"
        ) from error


def _readable(amount: str) -> str:
    """Returns an amount as XLA wrote it, whole bytes in GB."""
    digits = amount.removesuffix("bytes").strip()
    return f"{int(digits) / 1e9:.1f} GB" if digits.isdecimal() else amount
