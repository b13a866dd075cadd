"""What every program does alike: its arguments' errors, its exit code, and a last line that says what is wrong.

Exit codes: 0 done, 1 failed, 2 bad input, 130 and 143 interrupted (Ctrl-C, SIGTERM). A program may add its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from tracking.errors.errors import UsageError, UserError
from tracking.errors.redaction import guard


class Parser(argparse.ArgumentParser):
    """A command line whose errors are one line instead of the usage of all flags; call it inside ``run_program``."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}. See --help.")


def program_parser(name: str, version: str, **options: Any) -> Parser:
    """The parser of ``python -m NAME``, with ``--version``; ``options`` are ``argparse.ArgumentParser``'s own."""
    parser = Parser(prog=f"python -m {name}", **options)
    parser.add_argument("--version", action="version", version=f"{name} {version}")
    return parser


def run_program(name: str, act: Callable[[], int], *, broken_pipe: int = 1) -> int:
    """Call ``act`` and return the program's exit code; errors for the user become a line on standard error.

    ``broken_pipe`` is the code when the reader of standard output, such as ``head``, leaves early. Any other exception
    is a fault of the program and keeps its traceback, without passwords in it.
    """
    guard()
    try:
        code = act()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or 'interrupted'}", file=sys.stderr)
        return int(getattr(error, "exit_code", 130))
    except BrokenPipeError:
        # Python flushes standard output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return broken_pipe
