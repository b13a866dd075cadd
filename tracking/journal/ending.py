"""How a block was left, in a run's words: status and reason."""

from __future__ import annotations

# What a shell reports for SIGINT and SIGTERM.
_KILLED_CODES = (130, 143)


def verdict(error: BaseException | None) -> tuple[str, str]:
    """Status (FINISHED, FAILED or KILLED) and reason for the exception that ended a block, None being none."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED", ""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", str(error) or "interrupted from the keyboard"
    if isinstance(error, SystemExit):
        if error.code in _KILLED_CODES:
            return "KILLED", f"ended by a signal (exit code {error.code})"
        return "FAILED", f"exited with {error.code!r}"
    return "FAILED", one_line(error)


def one_line(error: BaseException) -> str:
    """An error's class and the line of its message that says what is wrong."""
    lines = str(error).strip().splitlines() or [""]
    if not lines[0].startswith("Traceback (most recent call last)"):
        return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
    # MXNet puts its own traceback before what it has to say, which begins with the class.
    return lines[-1]
