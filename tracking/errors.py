"""The tracking package's errors.

TrackingError
├── StoreError      the store cannot be opened, written or understood
├── RunNotFound     no run has the id that was given
└── JournalError    a journal is damaged beyond a torn last line
"""

from __future__ import annotations


class TrackingError(ValueError):
    """Root of the package's errors; the message says what was given, what is legal and what to do."""


class StoreError(TrackingError):
    """The store cannot be opened, written or understood."""


class RunNotFound(TrackingError):
    """No run has the id that was given."""


class JournalError(TrackingError):
    """A journal is damaged beyond a torn last line."""
