"""The one error a user is meant to read, and the wrapper that prints it.

Every mistake a person can make (a wrong name, a truncated file, a full disk) is raised as
`UserError` with one sentence that names the file, the field and the remedy. The command lines
turn it into that sentence on standard error and exit status 2; anything else is a bug in this
project and keeps its traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake outside the program, told in one sentence that says what to do about it."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command line's `main`; on `UserError` print its sentence and exit with status 2.

    Ctrl-C exits with the shell's usual status 130 and no traceback: long commands save their own
    work before they let the interrupt through.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
