"""The reports package's one error: a report that cannot be made."""

from __future__ import annotations

from tracking.errors.errors import UserError


class ReportError(UserError, ValueError):
    """The message says what is wrong, what is legal and what to do."""

    exit_code = 2
