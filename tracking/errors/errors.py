"""The tracking package's errors.

TrackingError
├── StoreError           the store cannot be opened, written or understood
│   └── StoreUnreachable   it may answer later: nothing is wrong with what was asked
├── RunNotFound          no run has the id that was given
├── ModelError           a model cannot be read, saved, exported or promoted
└── JournalError         a journal is damaged beyond a torn last line, in use, or cannot be written
"""

from __future__ import annotations

from tracking.errors.redaction import hidden


class TrackingError(ValueError):
    """Root of the package's errors; the message says what was given, what is legal and what to do.

    It may quote MLflow or a driver: passwords of the store's URI are hidden in it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(hidden(message))


class StoreError(TrackingError):
    """The store cannot be opened, written or understood."""


class StoreUnreachable(StoreError):
    """The store does not answer now; asking again later may help."""


class RunNotFound(TrackingError):
    """No run has the id that was given."""


class ModelError(TrackingError):
    """A model cannot be read, saved, exported or promoted."""


class JournalError(TrackingError):
    """A journal is damaged beyond a torn last line, in use, or cannot be written."""
