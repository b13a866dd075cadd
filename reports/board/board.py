"""The leaderboard as data: runs sorted into candidates, sources and the failed; a page for each test digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.board.checks import Finding, findings
from reports.board.runs import REPORT, BoardQuery, column, read
from reports.board.table import tabulate
from reports.claims.pages import Claims, claim
from reports.document import text
from tracking import names
from tracking.frame.query import HasUri

# Begins the key of a page whose pictures were not recorded; no digest begins so.
_NO_DIGEST = " "


@dataclass(frozen=True, kw_only=True)
class Page:
    """Scores that compare with one another: the same split of the same pictures.

    ``digest`` is empty where the runs did not log which pictures their score is from; ``runs`` are the finished
    candidates, ``table`` has a row for each of their configurations, ``claims`` what the tests of its rows say.
    """

    dataset: str
    digest: str
    runs: pd.DataFrame
    table: pd.DataFrame
    claims: Claims

    @property
    def key(self) -> str:
        return self.digest or self.dataset


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything a leaderboard says; of ``runs``, all that were read, the next four are parts."""

    ask: BoardQuery
    store: HasUri
    runs: pd.DataFrame
    finished: pd.DataFrame
    failed: pd.DataFrame
    running: pd.DataFrame
    sources: pd.DataFrame
    table: pd.DataFrame
    pages: list[Page]
    findings: list[Finding]

    @property
    def note(self) -> str:
        """Why the store had to be read the slow way; empty where it was not."""
        return str(self.runs.attrs.get("note", ""))


def build(store: HasUri, ask: BoardQuery) -> Board:
    """Read, sort into pages, tabulate, look for what is wrong."""
    runs = read(store, ask)
    pretext = column(runs, f"tags.{names.PRETEXT}").notna()
    status = runs["status"]
    ended_badly = status.isin(["FAILED", "KILLED"])
    report = column(runs, f"tags.{REPORT}").notna()
    finished = runs.loc[(status == "FINISHED") & ~pretext & ~report].copy()
    finished["page"] = _page_keys(finished)
    table = tabulate(finished, ask)
    claims = claim(table, finished, store.tracking_uri, ask.metric, ask.split, ask.cluster)
    return Board(
        ask=ask,
        store=store,
        runs=runs,
        finished=finished,
        failed=runs.loc[ended_badly],
        running=runs.loc[~ended_badly & (status != "FINISHED")],
        sources=runs.loc[pretext & (status == "FINISHED")],
        table=table,
        pages=_pages(finished, table, claims),
        findings=findings(runs, finished, table, ask),
    )


def _page_keys(runs: pd.DataFrame) -> pd.Series[Any]:
    """What decides comparability: the digest; a run without one joins its configuration's only digest, if any."""
    digest = runs["digest"].astype(object)
    known = runs.loc[digest.notna()].groupby("config")["digest"].agg(["first", "nunique"])
    only = known.loc[known["nunique"] == 1, "first"]
    digest = digest.where(digest.notna(), runs["config"].map(only))
    keys = [
        f"{_NO_DIGEST}{'' if text.is_missing(data) else data}" if text.is_missing(found) else str(found)
        for found, data in zip(digest, runs["dataset"], strict=True)
    ]
    return pd.Series(keys, index=runs.index, dtype=object)


def _pages(runs: pd.DataFrame, table: pd.DataFrame, claims: dict[str, Claims]) -> list[Page]:
    """The page with most ranked rows first, then by key."""
    pages = []
    for key, rows in table.groupby("page", sort=True):
        digest = "" if str(key).startswith(_NO_DIGEST) else str(key)
        datasets = sorted({str(d) for d in runs.loc[runs["page"] == key, "dataset"].dropna()})
        rows = rows.reset_index(drop=True)
        rows.attrs = dict(table.attrs)
        here = runs.loc[runs["page"] == key]
        pages.append(Page(dataset=", ".join(datasets), digest=digest, runs=here, table=rows, claims=claims[str(key)]))
    return sorted(pages, key=lambda p: (-int(p.table["rank"].notna().sum()), -len(p.table), p.key))
