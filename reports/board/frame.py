"""``leaderboard()``: the ranking as a pandas frame that draws itself in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reports.board.board import Board, build
from reports.board.export import report
from reports.board.runs import BoardQuery, split_words
from reports.document.report import Report
from reports.store import open_store
from tracking import names
from tracking.frame.query import HasUri


class LeaderboardFrame(pd.DataFrame):
    """The leaderboard's table, one row a configuration; ``board`` holds the rest of the page."""

    _metadata = ["board"]
    board: Board

    @property
    def report(self) -> Report:
        """The whole page, ready to be written in any format."""
        return report(self.board)

    def __repr__(self) -> str:
        return self.report.answer

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def to_text(self, format: str = "md") -> str:
        """The whole page as ``md``, ``html``, ``csv`` or ``json``."""
        return self.report.to_text(format)

    def save(self, path: Path | str, format: str = "") -> None:
        """Write the whole page to a file, in the format of its ending where none is given."""
        self.report.save(path, format)

    def _repr_html_(self) -> str:
        """What a notebook shows: the answer, the tables, the figures."""
        return self.report._repr_html_()


def leaderboard(
    store: HasUri | str | None = None,
    experiments: str | Sequence[str] | None = None,
    *,
    filter: str = "",
    metric: str = names.TEST_ACCURACY,
    by: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    best: str = "",
    at_step: int | None = None,
    top: int = 100,
    higher_is_better: bool | None = None,
    cluster: str = "",
) -> LeaderboardFrame:
    """Rank the configurations of a store (default: this directory's) over their seeds.

    ``filter`` is in MLflow's language, ``metric`` what ranks, ``by`` the settings that make a row (default: the whole
    configuration), ``columns`` more parameters, metrics or tags to show. Curves count with their last value, or that
    at the epoch where ``best`` was best, or at the epoch ``at_step``. Returns the table as a frame, best first on each
    page of comparable scores; ``.to_text("md")`` is the whole page, of ``top`` rows at most (0: all).
    ``higher_is_better`` says which way the metric ranks (None: what is known of it, or guessed by its name).
    ``cluster`` is what names a picture's source, as ``--cluster`` has it: pictures of one source count as one draw.
    Raises ReportError when there is nothing to rank or a name is unknown.
    """
    named = split_words(experiments) if isinstance(experiments, str) else experiments
    ask = BoardQuery(
        experiments=None if named is None else tuple(named),
        filter=filter,
        metric=metric,
        by=split_words(by),
        columns=split_words(columns),
        best=best,
        at_step=at_step,
        top=top,
        better="" if higher_is_better is None else "higher" if higher_is_better else "lower",
        cluster=cluster,
    )
    board = build(open_store(store), ask)
    frame = LeaderboardFrame(board.table)
    frame.attrs = dict(board.table.attrs)
    frame.board = board
    return frame


def leaderboard_text(
    store: HasUri | str | None = None, experiments: str | Sequence[str] | None = None, format: str = "md", **rest: Any
) -> str:
    """The leaderboard as text; the arguments are ``leaderboard``'s."""
    return leaderboard(store, experiments, **rest).to_text(format)
