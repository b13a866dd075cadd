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
    first = str(error).strip().splitlines()
    return "FAILED", f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
