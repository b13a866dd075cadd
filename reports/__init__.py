"""Turn tracked runs into pages people trust; ``python -m reports`` is the same on the command line.

The names load at their first use, so that ``--help`` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reports.errors import ReportError

if TYPE_CHECKING:
    from reports.board.frame import LeaderboardFrame as LeaderboardFrame
    from reports.board.frame import leaderboard as leaderboard
    from reports.board.frame import leaderboard_text as leaderboard_text
    from reports.document.report import Report as Report
    from reports.runs.card import run_card as run_card
    from reports.runs.comparison import compare as compare
    from reports.runs.costs import costs as costs
    from reports.runs.mistakes import mistakes as mistakes
    from reports.runs.study_answer import study as study

__all__ = [
    "LeaderboardFrame",
    "Report",
    "ReportError",
    "compare",
    "costs",
    "leaderboard",
    "leaderboard_text",
    "mistakes",
    "run_card",
    "study",
]

_HOMES = {
    "LeaderboardFrame": "reports.board.frame",
    "Report": "reports.document.report",
    "compare": "reports.runs.comparison",
    "costs": "reports.runs.costs",
    "leaderboard": "reports.board.frame",
    "leaderboard_text": "reports.board.frame",
    "mistakes": "reports.runs.mistakes",
    "run_card": "reports.runs.card",
    "study": "reports.runs.study_answer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
