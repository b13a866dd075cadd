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

_HOMES = {"leaderboard": "board", "leaderboard_text": "board", "LeaderboardFrame": "board"}

__all__ = ["LeaderboardFrame", "ReportError", "leaderboard", "leaderboard_text"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reports.{_HOMES[name]}"), name)
