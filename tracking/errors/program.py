"""What every program does alike: its arguments' errors, its exit code, and a last line that says what is wrong.

Exit codes: 0 done, 1 failed, 2 bad input, 130 and 143 interrupted (Ctrl-C, SIGTERM). A program may add its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, NoReturn, TextIO, cast

from tracking.errors.errors import UsageError, UserError
from tracking.errors.redaction import guard, guard_logs
from tracking.errors.words import harmless, nearest

# argparse's own sentences; newer Pythons write the choices without quotes.
_CHOICE = re.compile(r"argument (.+): invalid choice: '(.*)' \(choose from (.+)\)")
_UNKNOWN = "unrecognized arguments: "
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw])")
_AGO_S = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


class Parser(argparse.ArgumentParser):
    """A command line whose errors are one line instead of the usage of all flags; call it inside ``run_program``."""

    _words: list[str] = []
    _completing = False

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; a misspelt word gets the nearest legal one."""
        hint = ""
        if choice := _CHOICE.fullmatch(message):
            what, word, listed = choice.groups()
            legal = [one.strip("'") for one in listed.split(", ")]
            message, hint = f"{what} {word!r}: legal are {', '.join(legal)}", nearest(word, legal)
        elif message.startswith(_UNKNOWN):
            unknown = message.removeprefix(_UNKNOWN).split()
            hint = next((near for word in unknown if (near := nearest(word.partition("=")[0], self._flags()))), "")
            message = f"unknown: {' '.join(unknown)}"
        raise UsageError(f"{message}.{hint} See --help.")

    def _flags(self) -> list[str]:
        """Those of this parser and of the command that was given."""
        parsers = (self, *(parser for name, parser in self._commands().items() if name in self._words))
        return [flag for parser in parsers for action in parser._actions for flag in action.option_strings]

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        return next((action.choices for action in self._actions if isinstance(action.choices, dict)), {})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does. A shell that completes is answered first; without any argument, the commands are listed."""
        if "_ARGCOMPLETE" in os.environ and not Parser._completing:
            import argcomplete

            Parser._completing = True  # it parses once more to find out what is already there
            argcomplete.autocomplete(self)
        self._words = list(sys.argv[1:] if args is None else args)
        if not self._words and self._commands() and not Parser._completing:
            self.print_help()
            self.exit(2)
        return super().parse_known_args(args, namespace)


class _Verbose(argparse.Action):
    """``--verbose``: the log messages of the libraries beneath, on standard error."""

    def __call__(self, *_: Any) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        guard_logs("")


class _Harmless:
    """A stream of text without the escapes that names and values of others may hold. ``drawn``: the stream itself."""

    def __init__(self, drawn: TextIO) -> None:
        self.drawn = drawn

    def write(self, text: str) -> int:
        return self.drawn.write(harmless(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.drawn, name)


def open_standard_descriptors() -> None:
    """Have 0, 1 and 2 stand for ``/dev/null`` where a process was started without them (``>&-``, some daemons).

    The next file that is opened would get the number, and with it what C libraries and child processes print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _open_streams() -> None:
    open_standard_descriptors()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            is_null = os.path.samestat(os.fstat(number), os.stat(os.devnull))  # else some library has taken the number
            where = number if is_null else os.devnull
            setattr(sys, name, open(where, "w" if number else "r", closefd=not is_null, encoding="utf-8"))


@contextmanager
def harmless_streams() -> Iterator[None]:
    """Within, standard output and error pass on no escapes that names and values of others hold."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Harmless(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def drawn(stream: TextIO) -> TextIO:
    """The stream below, for what draws with escapes of its own; its texts go through ``harmless`` first."""
    return cast(TextIO, getattr(stream, "drawn", stream))


def program_parser(name: str, version: str, **options: Any) -> Parser:
    """The parser of ``python -m NAME``, with ``--version``; ``options`` are ``argparse.ArgumentParser``'s own."""
    parser = Parser(prog=f"python -m {name}", **options)
    parser.add_argument("--version", action="version", version=f"{name} {version}")
    parser.add_argument(
        "-v", "--verbose", action=_Verbose, nargs=0, help="also show the log messages of MLflow, boto3 and others"
    )
    return parser


def run_program(name: str, act: Callable[[], int], *, broken_pipe: int = 1) -> int:
    """Call ``act`` and return the program's exit code; errors for the user become a line on standard error.

    ``broken_pipe`` is the code when the reader of standard output, such as ``head``, leaves early. Any other exception
    is a fault of the program and keeps its traceback, without passwords in it.
    """
    _open_streams()
    guard()
    with harmless_streams():
        return _run(name, act, broken_pipe)


def _run(name: str, act: Callable[[], int], broken_pipe: int) -> int:
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


def moment(since: str, now_s: float) -> float:
    """Seconds since 1970 of ``2026-11-01``, ``2026-11``, an ISO time (UTC where it names no zone), or ``30d`` ago.

    Raises UsageError for anything else.
    """
    text = since.strip()
    if match := _AGO.fullmatch(text.lower()):
        return max(0.0, now_s - float(match[1]) * _AGO_S[match[2]])
    try:
        text = f"{text}-01" if re.fullmatch(r"\d{4}-\d\d", text) else text.replace("Z", "+00:00")
        then = datetime.fromisoformat(text)
        return max(0.0, (then if then.tzinfo else then.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--since {since!r}: give a date such as 2026-11-01, or a time ago: 30d, 12h, 4w")
