"""The reports package's one error: a report that cannot be made."""

from __future__ import annotations


class ReportError(ValueError):
    """The message says what is wrong, what is legal and what to do."""
