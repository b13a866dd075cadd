"""A leaderboard in one of its formats."""

from __future__ import annotations

from reports.board import Board
from reports.errors import ReportError

FORMATS = ("md", "csv", "json")


def render(board: Board, format: str) -> str:
    """The text of ``board`` as ``md``, ``csv`` or ``json``, ending in one newline."""
    if format == "md":
        from reports.markdown import leaderboard

        return leaderboard(board)
    if format == "csv":
        from reports.data import to_csv

        return to_csv(board)
    if format == "json":
        from reports.data import to_json

        return to_json(board)
    raise ReportError(f"format {format!r}: legal are {', '.join(FORMATS)}")
