"""The errors whose messages are for the user; each class has the exit code it means for a program.

UserError                  root of the errors of tracking, trainers and reports (exit code 1)
├── UsageError             a command line that cannot be read (exit code 2)
└── TrackingError          root of this package's errors (exit code 2)
    ├── StoreError           the store cannot be opened, written or understood
    │   └── StoreUnreachable   the store may answer later; the request itself is fine (exit code 1)
    ├── RunNotFound          no run has the id that was given
    ├── ModelError           a model cannot be read, saved, exported or promoted
    └── JournalError         a journal is damaged beyond a torn last line, in use, or cannot be written
"""

from __future__ import annotations

from tracking.errors.redaction import hidden


class UserError(Exception):
    """The message says what was given, what is legal and what to do; ``exit_code`` is the program's.

    It may quote MLflow, AWS, a driver or an address: secrets are hidden in it.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(hidden(message))


class UsageError(UserError, ValueError):
    """A command line that cannot be read."""

    exit_code = 2


class TrackingError(UserError, ValueError):
    """Root of the package's errors."""

    exit_code = 2


class StoreError(TrackingError):
    """The store cannot be opened, written or understood."""


class StoreUnreachable(StoreError):
    """The store does not answer now; asking again later may help."""

    exit_code = 1


class RunNotFound(TrackingError):
    """No run has the id that was given."""


class ModelError(TrackingError):
    """A model cannot be read, saved, exported or promoted."""


class JournalError(TrackingError):
    """A journal is damaged beyond a torn last line, in use, or cannot be written."""
