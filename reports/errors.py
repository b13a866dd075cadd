"""The reports package's one error: a report that cannot be made from what was asked."""

from __future__ import annotations

from tracking.errors.errors import UserError


class ReportError(UserError, ValueError):
    """The message says what was asked, what there is and what to do."""

    exit_code = 2
