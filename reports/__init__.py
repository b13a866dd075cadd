"""Turn tracked runs into pages people trust; ``python -m reports`` is the door.

pandas and the rest are imported when a function is first called, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.errors import ReportError

if TYPE_CHECKING:
    from reports.board.frame import LeaderboardFrame as LeaderboardFrame
    from reports.board.frame import leaderboard as leaderboard
    from reports.board.frame import leaderboard_text as leaderboard_text
    from reports.document.report import Report
    from reports.runs.card import run_card as run_card
    from reports.runs.comparison import compare as compare

_HOMES = {
    "LeaderboardFrame": "board.frame",
    "Report": "document.report",
    "compare": "runs.comparison",
    "leaderboard": "board.frame",
    "leaderboard_text": "board.frame",
    "run_card": "runs.card",
}

__all__ = ["LeaderboardFrame", "Report", "ReportError", "compare", "leaderboard", "leaderboard_text", "run_card"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reports.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
