"""The leaderboard as data: runs sorted into candidates, sources and the failed; a page for each test digest.

``leaderboard(...)`` is the public door; what it returns is the table as a pandas frame that knows how to show itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports import text
from reports.errors import ReportError
from reports.source import Ask, column, open_store, read, split_words
from reports.table import tabulate
from tracking import names
from tracking.frame import HasUri

UNKNOWN = ""


@dataclass(frozen=True)
class Page:
    """Scores that compare with one another: the same split of the same pictures.

    ``digest`` is empty where the runs do not say which pictures their score is from.
    """

    dataset: str
    digest: str
    table: pd.DataFrame

    @property
    def key(self) -> str:
        return f"{self.digest or self.dataset}"


@dataclass(frozen=True)
class Board:
    """Everything a leaderboard says; of ``runs``, all that were read, the next three are parts."""

    ask: Ask
    uri: str
    runs: pd.DataFrame
    table: pd.DataFrame
    pages: list[Page]
    failed: pd.DataFrame
    running: pd.DataFrame
    sources: pd.DataFrame
    note: str = ""
    sections: dict[str, Any] = field(default_factory=dict)


class LeaderboardFrame(pd.DataFrame):
    """The leaderboard's table, one row a configuration; ``board`` holds the rest of the page."""

    _metadata = ["board"]
    board: Board

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def to_text(self, format: str = "md") -> str:
        """The whole page as ``md``, ``html``, ``csv`` or ``json``."""
        from reports.render import render

        return render(self.board, format)


def leaderboard(
    store: HasUri | str | None = None,
    experiments: str | Sequence[str] | None = None,
    *,
    filter: str = "",
    metric: str = names.TEST_ACCURACY,
    by: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
) -> LeaderboardFrame:
    """Rank the configurations of a store (default: this directory's) over their seeds.

    Returns the table as a frame, best first on each page of comparable scores; ``.to_text("md")`` is the whole page.
    Raises ReportError when there is nothing to rank or a name is unknown.
    """
    named = split_words(experiments) if isinstance(experiments, str) else experiments
    ask = Ask(None if named is None else tuple(named), filter, metric, split_words(by), split_words(columns))
    board = build(open_store(store), ask)
    frame = LeaderboardFrame(board.table)
    frame.board = board
    return frame


def leaderboard_text(
    store: HasUri | str | None = None, experiments: str | Sequence[str] | None = None, format: str = "md", **rest: Any
) -> str:
    """The leaderboard as text; the arguments are ``leaderboard``'s."""
    return leaderboard(store, experiments, **rest).to_text(format)


def build(store: HasUri, ask: Ask) -> Board:
    """Read, sort into pages, tabulate."""
    runs = read(store, ask)
    if f"metrics.{ask.metric}" not in runs.columns and ask.metric != names.TEST_ACCURACY:
        known = sorted(c[8:] for c in runs.columns if c.startswith("metrics."))
        raise ReportError(f"no run has a metric {ask.metric!r}; there are: {', '.join(known) or 'none'}")
    pretext = column(runs, f"tags.{names.PRETEXT}").notna()
    status = runs["status"]
    ended_badly = status.isin(["FAILED", "KILLED"])
    finished = runs.loc[(status == "FINISHED") & ~pretext].copy()
    finished["page"] = _page_keys(finished)
    table = tabulate(finished, ask)
    return Board(
        ask,
        store.tracking_uri,
        runs,
        table,
        _pages(finished, table),
        runs.loc[ended_badly],
        runs.loc[~ended_badly & (status != "FINISHED")],
        runs.loc[pretext & (status == "FINISHED")],
        str(runs.attrs.get("note", "")),
    )


def _page_keys(runs: pd.DataFrame) -> pd.Series[Any]:
    """What decides comparability: the digest; a run without one joins its configuration's only digest, if any."""
    digest = runs["digest"].astype(object)
    known = runs.loc[digest.notna()].groupby("config")["digest"].agg(["first", "nunique"])
    only = known.loc[known["nunique"] == 1, "first"]
    digest = digest.where(digest.notna(), runs["config"].map(only))
    keys = [
        f"\x00{'' if text.is_missing(data) else data}" if text.is_missing(found) else str(found)
        for found, data in zip(digest, runs["dataset"], strict=True)
    ]
    return pd.Series(keys, index=runs.index, dtype=object)


def _pages(runs: pd.DataFrame, table: pd.DataFrame) -> list[Page]:
    """The page with most ranked rows first, then by key."""
    pages = []
    for key, rows in table.groupby("page", sort=True):
        digest = UNKNOWN if str(key).startswith("\x00") else str(key)
        datasets = sorted({str(d) for d in runs.loc[runs["page"] == key, "dataset"].dropna()})
        rows = rows.reset_index(drop=True)
        rows.attrs = dict(table.attrs)
        pages.append(Page(", ".join(datasets), digest, rows))
    return sorted(pages, key=lambda p: (-int(p.table["rank"].notna().sum()), -len(p.table), p.key))
