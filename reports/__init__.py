"""Turn tracked runs into pages people trust; ``python -m reports`` is the door.

pandas and the rest are imported when a function is first called, so that ``--help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.errors import ReportError

if TYPE_CHECKING:
    from reports.board import LeaderboardFrame as LeaderboardFrame
    from reports.board import leaderboard as leaderboard
    from reports.board import leaderboard_text as leaderboard_text
    from reports.card import run_card as run_card
    from reports.comparison import compare as compare
    from reports.paper import Paper as Paper

_HOMES = {
    "LeaderboardFrame": "board",
    "Paper": "paper",
    "compare": "comparison",
    "leaderboard": "board",
    "leaderboard_text": "board",
    "run_card": "card",
}

__all__ = ["LeaderboardFrame", "Paper", "ReportError", "compare", "leaderboard", "leaderboard_text", "run_card"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reports.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
