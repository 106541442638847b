"""How a mistake of the user ends a command: one clear sentence and exit status 2."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right; its text says what was got and what is allowed.

    Raised wherever configs, files and records enter. Commands turn it into a line on
    stderr (see `run_command`); library callers may catch it.
    """


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's `main`; a `UserError` becomes `error: ...` and exit status 2."""
    try:
        main()
    except UserError as error:
        # On one line, even where a name or another library's words have several.
        print("error:", *str(error).splitlines(), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
